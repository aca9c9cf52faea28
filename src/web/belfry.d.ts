// Types, and the manual, of belfry.js.
//
// A Belfry keeps one connection to a rooms route: over WebSocket, else Server-Sent Events, else long polling, whichever
// is the first that works. It connects when it is made, comes back by itself after every break (with exponential
// back-off and full jitter, when the server says otherwise then as the server says, and at once when the network is
// back), joins its rooms again from the last message seen, and hands each message on once and in order.

/** A message's place in a room that keeps history. Offsets mean something within their epoch only. */
export interface Position {
    epoch: string;
    offset: number;
}

/** A connection, as others see it. `info` is what the backend has said of it. */
export interface Member {
    conn: string;
    user?: string;
    info?: unknown;
}

export interface Message<T = any> {
    type: "message";
    room: string;
    /** What was published. */
    data: T;
    /** In its place: bytes that are no text, as base64. */
    data64?: string;
    /** In rooms with history. */
    offset?: number;
    epoch?: string;
    /** Who published it, if that was a client. Belfry says so: nobody can make it up. */
    from?: Member;
    /** ms since 1970. */
    time: number;
}

export interface MemberEvent {
    type: "member";
    room: string;
    event: "join" | "leave";
    member: Member;
    /** The node of that member has died. */
    cause?: "node_lost";
}

/** Something may have been missed in this room: load anew what the page shows of it. */
export interface Gap {
    type: "gap";
    room: string;
}

/** The server has taken us out of the room; it is not joined again. */
export interface Removed {
    type: "removed";
    room: string;
    reason: string;
}

export interface Welcome {
    type: "welcome";
    conn: string;
    user?: string;
    info?: unknown;
    /** Rooms that the server has put us into. */
    rooms: Record<string, Partial<Position>>;
    /** What the backend's connect hook had to say. */
    data?: any;
    data64?: string;
    expires_in?: number;
    ping: number;
}

export interface Bye {
    type: "bye";
    code: number;
    reason: string;
    reconnect: boolean;
    after_ms?: number;
}

/** An attempt to connect has failed, or a connection has ended. */
export interface Close {
    /** Of the WebSocket, of `bye`, or an HTTP status; undefined where nothing answered. */
    code?: number;
    reason: string;
    /** false: only connect() will begin again. */
    reconnect: boolean;
    /** When the next attempt is made. */
    after_ms: number;
}

/**
 * A refusal. `code` is HTTP's, as the server or the backend has said; 408: no answer in time; 429: too much at once;
 * 0: the connection was lost or closed meanwhile, and nobody knows whether the request was carried out.
 */
export class BelfryError extends Error {
    constructor(code: number, message: string);
    code: number;
    /** Of a join. */
    room?: string;
}

/** The answer to a join. */
export interface Joined extends Partial<Position> {
    /** Everything since the last message seen comes now. */
    recovered?: boolean;
    /** How many messages that are. */
    replayed?: number;
}

/** What is told of a room. Called with the object that came; an exception in one is shown as uncaught. */
export interface RoomHandlers {
    /** We are in it: for the first time, or again after a break. */
    onJoin?(joined: Joined): void;
    onMessage?(message: Message): void;
    onMember?(event: MemberEvent): void;
    onGap?(gap: Gap): void;
    onRemoved?(removed: Removed): void;
    /** A join was refused; with code 429 or 5xx it is tried again. */
    onError?(error: BelfryError): void;
}

/** The same of all rooms, those included that the server has put us into, and of the connection. */
export interface Handlers extends RoomHandlers {
    onOpen?(welcome: Welcome): void;
    onClose?(close: Close): void;
    onBye?(bye: Bye): void;
}

export interface Events {
    open: Welcome;
    close: Close;
    bye: Bye;
    join: Joined;
    message: Message;
    member: MemberEvent;
    gap: Gap;
    removed: Removed;
    error: BelfryError;
}

export type Transport = "websocket" | "sse" | "poll";

export interface Options extends Handlers {
    /**
     * Who we are, where the route says `auth = jwt`. A function is asked before each connection, before the token runs
     * out, and after it has. It goes as a WebSocket subprotocol, or as Authorization: Bearer; never into the URL.
     */
    token?: string | (() => string | Promise<string>);
    /**
     * In the order of preference; all three if not given. One that fails twice before its welcome gives way to the next;
     * what has worked is remembered in sessionStorage, and gets five chances.
     */
    transports?: Transport[];
    /** ms until a request or an attempt to connect has failed; 10000 if not given. */
    timeout?: number;
    /** Cookies for another origin's server, with SSE and long polling; its route must name this page's origin. */
    withCredentials?: boolean;
}

export interface RequestOptions {
    /** ms; else that of Options. */
    timeout?: number;
}

export interface PublishOptions extends RequestOptions {
    /** false: everybody gets it but us. */
    echo?: boolean;
}

export interface JoinOptions extends RoomHandlers {
    /** Where to begin, of an earlier `position`: a page that was reloaded gets what it has missed, or a gap. */
    since?: Position | null;
}

/** A room that we have joined, and join again after every break. */
export interface Room {
    readonly name: string;
    /** Fulfilled by the server's first yes; rejected with its no, which is also told as an error. */
    readonly joined: Promise<Joined>;
    /** Of the last message seen; undefined where the room has no history, or nothing is known yet. */
    readonly position: Position | undefined;
    publish(data: unknown, options?: PublishOptions): Promise<Partial<Position>>;
    members(options?: RequestOptions): Promise<Member[]>;
    leave(): void;
}

export class Belfry {
    /** `url`: of the route, by ws, wss, http or https, or relative to the page. */
    constructor(url: string | URL, options?: Options);
    readonly state: "connecting" | "open" | "waiting" | "closed";
    /** Of the last connection that was open, as are `conn` and `user`. */
    readonly transport?: Transport;
    /** Our id: `from.conn` of what we publish. */
    readonly conn?: string;
    readonly user?: string;

    /** Calls `listener` for each such event, until the function that it returns is called. */
    on<K extends keyof Events>(type: K, listener: (detail: Events[K]) => void): () => void;

    /** Again after close(), or after the server has said good-bye for ever. Rooms are joined again. */
    connect(): void;
    /** Ends it; requests under way are rejected. */
    close(): void;

    /** Joins now, or when it is connected. A second call adds its handlers to the room that is there. */
    join(room: string, options?: JoinOptions): Room;
    /** Leaves a room, also one that the server has put us into. */
    leave(room: string): void;
    /**
     * Requests wait for a connection, in this order, until their time is up. One that was sent when the connection broke
     * is rejected and not repeated.
     */
    publish(room: string, data: unknown, options?: PublishOptions): Promise<Partial<Position>>;
    /** Asks the backend; fulfilled with its answer's data. */
    call<T = any>(method: string, data?: unknown, options?: RequestOptions): Promise<T>;
    /** Who is in a room that keeps presence. */
    members(room: string, options?: RequestOptions): Promise<Member[]>;
}
