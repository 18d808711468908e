/** What the engine tells operators. No content and no addresses. */
export interface EngineLog {
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
}
