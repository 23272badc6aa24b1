export class Num {
  constructor(text: string);
  readonly text: string;
  toString(): string;
}

export type Json = null | boolean | string | number | bigint | Num | Json[] | { [key: string]: Json | undefined };

export interface Event {
  event_id?: bigint;
  execution_id: bigint;
  event_type: string;
  step?: string;
  status: string;
  created_at?: string;
  context?: Json;
  worker_id?: string | null;
  meta: { attempts: number | Num; [key: string]: Json };
  command_id?: string;
  catalog_id?: bigint;
  node_type?: string;
  parent_event_id?: bigint;
  parent_execution_id?: bigint;
  result?: Json;
  error?: string;
  duration?: number | Num;
}

export function parse(text: string): Json;
export function read(line: string): Event;
export function write(event: Event): string;
export function canonical(value: Json): string;
