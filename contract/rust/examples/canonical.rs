//! Events of any producer in, one a line; canonical events out, one a line.
//!
//! A rejected line gives `{"quarantine":{"line":N,"reason":WORD,"detail":TEXT}}` in its place, as
//! `normalizer normalize` does.

use std::io::{self, BufRead, BufWriter, Write};

use noetl_events::Envelope;

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for (number, line) in (1_u64..).zip(io::stdin().lock().split(b'\n')) {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match Envelope::read(&line).and_then(|event| event.to_canonical()) {
            Ok(canonical) => writeln!(out, "{canonical}")?,
            Err(error) => {
                let reason = error.reason();
                let detail = error.to_string();
                let rejection =
                    serde_json::json!({"line": number, "reason": reason, "detail": detail});
                writeln!(out, "{}", serde_json::json!({ "quarantine": rejection }))?;
            }
        }
    }
    out.flush()
}
