export function openInbox(options: {
  readonly url: string;
  readonly token: () => Promise<string>;
  readonly onChange: (messages: readonly object[]) => void;
  readonly onProblem?: (problem: string) => void;
  readonly WebSocket?: typeof WebSocket;
}): {
  markRead(...ids: readonly string[]): Promise<void>;
  markUnread(...ids: readonly string[]): Promise<void>;
  close(): void;
};
