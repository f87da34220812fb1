//! Server-sent events, out of bytes as they come. Whoever pushes bounds how many.

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name; `message` where it has none.
    pub name: String,
    /// Its data lines.
    pub data: String,
}

/// A stream of events, as far as it has come.
#[derive(Clone, Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: Option<String>,
}

impl Events {
    /// Takes the next bytes; gives the events that they complete.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in chunk {
            // A line ends with \n, \r or both.
            let second_half = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take(&String::from_utf8_lossy(&line)));
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    /// The event that the end of the stream leaves without its blank line. The standard drops it; servers that close
    /// at once after their answer are understood by every client.
    pub fn finish(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        self.take(&String::from_utf8_lossy(&line)).or_else(|| self.take(""))
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = self.data.take()?;
            return Some(Event { name: if name.is_empty() { "message".to_owned() } else { name }, data });
        }
        let line = line.trim_start_matches('\u{feff}');
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments keep the stream alive; ids and times to reconnect are for those who do.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_read_whatever_their_line_ends_and_wherever_they_are_cut() {
        let expected = [event("endpoint", "/messages/?id=1"), event("message", "{\n}")];
        for ends in ["\n", "\r", "\r\n"] {
            let text = [
                ": hello",
                "event: endpoint",
                "data: /messages/?id=1",
                "",
                ":",
                "id: 7",
                "",
                "data:{",
                "data:}",
                "",
                "",
            ]
            .join(ends);
            for size in 1..=text.len() {
                let mut events = Events::default();
                let seen: Vec<Event> =
                    text.as_bytes().chunks(size).flat_map(|chunk| events.push(chunk)).collect();
                assert_eq!(seen, expected, "{ends:?} in pieces of {size}");
                assert_eq!(events.finish(), None);
            }
        }
    }

    #[test]
    fn the_end_of_the_stream_completes_its_last_event() {
        for text in ["data: {}", "data: {}\n"] {
            let mut events = Events::default();
            assert_eq!(events.push(text.as_bytes()), []);
            assert_eq!(events.finish(), Some(event("message", "{}")));
            assert_eq!(events.finish(), None);
        }
    }
}
