/** What can stand in a `LinkedList`, in one at a time. */
export abstract class Linked<Self extends Linked<Self>> {
  /** Where it stands now. The links are the list's business. */
  list: LinkedList<Self> | undefined = undefined;
  previous: Self | undefined = undefined;
  next: Self | undefined = undefined;
}

/** First come, first served; also whoever stands in the middle leaves at no cost. */
export class LinkedList<Node extends Linked<Node>> {
  #first: Node | undefined;
  #last: Node | undefined;
  #length = 0;

  get first(): Node | undefined {
    return this.#first;
  }

  get length(): number {
    return this.#length;
  }

  push(node: Node): void {
    node.list = this;
    node.previous = this.#last;
    if (this.#last) this.#last.next = node;
    else this.#first = node;
    this.#last = node;
    this.#length++;
  }

  shift(): Node | undefined {
    const node = this.#first;
    if (node) this.remove(node);
    return node;
  }

  /** Of a node that stands here. */
  remove(node: Node): void {
    if (node.previous) node.previous.next = node.next;
    else this.#first = node.next;
    if (node.next) node.next.previous = node.previous;
    else this.#last = node.previous;
    node.list = undefined;
    node.previous = undefined;
    node.next = undefined;
    this.#length--;
  }
}
