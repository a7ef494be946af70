//! The text of a status: a table, with a sentence below each member that needs one.

use std::fmt::{self, Write as _};

use crate::runtime::duration::Rounded;
use crate::status::{MemberStatus, Status};

/// The widest line in columns.
const COLUMNS: usize = 118;
/// The widest id and address. The end of a longer one is shown, which tells pods of one deployment apart.
const ID: usize = 24;
const ADDR: usize = 21;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let explained = self.explain();
        let mut head = String::new();
        explained.write_sentence(&mut head)?;
        match self.set_age {
            Some(age) => {
                let provisional = if self.is_provisional {
                    "provisional "
                } else {
                    ""
                };
                write!(head, "; {provisional}set {} old", Rounded(age))?;
            }
            None => head += "; no set yet",
        }
        write_wrapped(f, &head, "", "  ")?;
        let ids = self.members.iter().map(|m| width(m.instance.id().as_str()));
        let ids = ids.max().unwrap_or(0).min(ID);
        let addrs = self
            .members
            .iter()
            .map(|m| m.instance.address().to_string());
        let addrs = addrs.map(|addr| width(&addr)).max().unwrap_or(0).min(ADDR);
        for (member, explained) in self.members.iter().zip(&explained.members) {
            write_row(f, member, (ids, addrs))?;
            let mut sentence = String::new();
            if explained.is_notable() {
                explained.write_predicate(&mut sentence)?;
            }
            if member.recent_failures > 0 {
                let separator = if sentence.is_empty() { "" } else { "; " };
                let (failed, of) = (member.recent_failures, member.recent_requests);
                write!(sentence, "{separator}{failed} of {of} failed lately")?;
                if member.failures_in_row > 0 {
                    write!(sentence, ", {} in a row", member.failures_in_row)?;
                }
            }
            if !sentence.is_empty() {
                f.write_str("\n")?;
                write_wrapped(f, &sentence, "      ", "      ")?;
            }
        }
        Ok(())
    }
}

fn write_row(
    f: &mut fmt::Formatter<'_>,
    member: &MemberStatus,
    (ids, addrs): (usize, usize),
) -> fmt::Result {
    let id = end_of(member.instance.id().as_str(), ID);
    let addr = end_of(&member.instance.address().to_string(), ADDR);
    let latency = member
        .latency
        .map_or_else(|| "-".to_owned(), |latency| Rounded(latency).to_string());
    write!(
        f,
        "\n  {id:<ids$} {addr:<addrs$} {:<12} {:<4} {:>6} {:>3} in flight {:>7}/{} failed {latency:>7}",
        member.state,
        if member.is_connected() { "up" } else { "down" },
        Rounded(member.since).to_string(),
        member.in_flight,
        member.failures,
        member.picks,
    )
}

/// Writes a text in lines of at most [`COLUMNS`] columns. A longer word has a line of its own.
fn write_wrapped(f: &mut fmt::Formatter<'_>, text: &str, first: &str, indent: &str) -> fmt::Result {
    f.write_str(first)?;
    let mut column = width(first);
    for (index, word) in text.split(' ').enumerate() {
        let width = width(word);
        if index > 0 && column + 1 + width > COLUMNS {
            write!(f, "\n{indent}{word}")?;
            column = indent.len() + width;
        } else {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{word}")?;
            column += space.len() + width;
        }
    }
    Ok(())
}

/// A text of at most that many columns: the end of a longer one.
fn end_of(text: &str, columns: usize) -> String {
    let length = width(text);
    if length <= columns {
        return text.to_owned();
    }
    let end = text.chars().skip(length - columns + 1);
    std::iter::once('…').chain(end).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::explain::member::tests::{ejection, member, status};
    use crate::model::instance::Instance;
    use crate::status::MemberState;

    #[test]
    fn the_time_beside_a_state_is_that_of_the_connection() {
        let mut status = status([MemberState::Ejected, MemberState::Disconnected]);
        status.members[0].ejection = Some(ejection());
        let text = status.to_string();
        let rows = text.lines().filter(|line| line.contains("in flight"));
        let told = rows.map(|row| row.split_whitespace().skip(2).take(4).collect::<Vec<_>>());
        let told: Vec<_> = told.map(|words| words.join(" ")).collect();
        assert_eq!(
            told,
            ["ejected up 34 s", "disconnected down 34 s"],
            "{text}"
        );
    }

    #[test]
    fn no_line_of_a_status_is_wider_than_119_columns() {
        let mut status = status([]);
        status.discovery_error = Some("the server is gone and so is its text ".repeat(9));
        for state in [
            MemberState::Ejected,
            MemberState::Disconnected,
            MemberState::Usable,
        ] {
            let mut member = member(state);
            let id = format!("deployment-with-a-long-name-7d9f8b6c5d-{state}");
            member.instance = Instance::new(
                id,
                "[2001:db8:85a3::8a2e:370:7334]:65535"
                    .parse::<std::net::SocketAddr>()
                    .unwrap(),
            );
            member.ejection = Some(ejection());
            member.error = Some("certificate not valid for name worker ".repeat(5));
            member.latency = Some(Duration::from_micros(123_456));
            (member.picks, member.failures, member.in_flight) = (1_234_567, 1_234_567, 999);
            member.failures_in_row = 9;
            status.members.push(member);
        }
        let text = status.to_string();
        for line in text.lines() {
            assert!(line.chars().count() < 120, "{line}");
        }
        assert!(text.contains("7d9f8b6c5d-ejected"), "{text}");
        assert!(text.lines().count() > 8, "{text}");
    }
}
