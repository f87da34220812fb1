//! How the demo looks: aligned columns, colour on a terminal only.

use std::time::Duration;

use console::{Style, Term};
use indicatif::{ProgressBar, ProgressStyle};

use super::timeline::{Line, Step};

/// Where the sentences of the timeline begin.
const INDENT: usize = 28;

/// The timeline on the screen, with a line below it that tells what is awaited.
pub struct Screen {
    bar: Option<ProgressBar>,
    width: usize,
}

impl Screen {
    /// Prints the heading.
    pub fn start() -> Self {
        let terminal = Term::stdout();
        let bar = (terminal.is_term() && console::user_attended_stderr()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let width = if terminal.is_term() { usize::from(terminal.size().1).clamp(60, 140) } else { 110 };
        println!("{}", Style::new().dim().apply_to("    TIME  STEP       PODS   WHAT"));
        Self { bar, width }
    }

    /// Prints one step.
    pub fn line(&self, after: Duration, line: &Line) {
        let text = format(after, line, self.width);
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// Says what is awaited; on a terminal only.
    pub fn note(&self, after: Duration, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{:>6.1} s  {what}", after.as_secs_f64()));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A heading between the parts of the demo.
pub fn heading(text: &str) {
    println!("\n{}", Style::new().bold().apply_to(text));
}

fn format(after: Duration, line: &Line, width: usize) -> String {
    let style = match line.step {
        Step::Rollout => Style::new().bold(),
        Step::Down | Step::Fault | Step::Escalated => Style::new().red(),
        Step::Held => Style::new().yellow(),
        Step::Detected | Step::Cause => Style::new().magenta(),
        Step::Recorded | Step::Acted => Style::new().cyan(),
        Step::Up | Step::Verified | Step::Mitigated | Step::Resolved => Style::new().green(),
    };
    let (ready, wanted) = line.ready;
    let sentence = wrap(&line.text, width.saturating_sub(INDENT)).join(&format!("\n{}", " ".repeat(INDENT)));
    format!(
        "{:>6.1} s  {}  {:<5}  {sentence}",
        after.as_secs_f64(),
        style.apply_to(format!("{:<9}", line.step.name())),
        format!("{ready}/{wanted}"),
    )
}

/// A text in lines of at most `width` characters; a word that is longer has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.len() - 1;
        let used = lines[line].chars().count();
        if used == 0 {
            lines[line].push_str(word);
        } else if used + 1 + word.chars().count() <= width {
            lines[line].push(' ');
            lines[line].push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_wrap_below_themselves() {
        let line = Line { step: Step::Fault, text: "one two three".to_owned(), ready: (0, 3) };
        console::set_colors_enabled(false);
        let text = format(Duration::from_millis(1234), &line, INDENT + 8);
        assert_eq!(text, format!("   1.2 s  fault      0/3    one two\n{}three", " ".repeat(INDENT)));
    }

    #[test]
    fn long_words_are_not_broken() {
        assert_eq!(wrap("a mcp-server-6f4c-hvfpn b", 8), ["a", "mcp-server-6f4c-hvfpn", "b"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
