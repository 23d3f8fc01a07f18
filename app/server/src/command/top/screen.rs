//! The screen. Pure: from a view to a frame of any size.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};
use ratebox_intake::mask_message;

use super::super::figures::{grouped, span};
use super::view::{LaneRow, MemberRow, Question, View};

/// From how old on an entry that nobody finished is shown as trouble.
const OLD: Duration = Duration::from_secs(60);

/// Draws everything that fits; from top to bottom the most important first.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let lanes = view.lane_rows();
    let members = view.member_rows();
    let wanted = |rows: usize| u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(2);
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(wanted(lanes.len().max(1))),
        Constraint::Max(wanted(members.len().max(1))),
        Constraint::Max(8),
        Constraint::Max(8),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    // A tiny terminal shows the head and the lanes; tables of no rows would only show titles.
    let [
        head,
        lane_area,
        member_area,
        letter_area,
        error_area,
        _,
        foot,
    ] = parts.areas(frame.area());
    frame.render_widget(header(view), head);
    draw_lanes(frame, lane_area, view, &lanes);
    draw_members(frame, member_area, view, &members);
    draw_letters(frame, letter_area, view);
    draw_errors(frame, error_area, view);
    frame.render_widget(footer(view), foot);
}

fn header(view: &View) -> Line<'_> {
    let Some(now) = &view.now else {
        return Line::from("RateBox top  looking …");
    };
    let at = now.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let retries = match &now.delayed {
        Ok(delayed) if delayed.count > 0 => format!("  retries waiting {}", grouped(delayed.count)),
        _ => String::new(),
    };
    let title = Span::styled("RateBox top", Style::new().add_modifier(Modifier::BOLD));
    let mut parts = vec![title, Span::raw(format!("  {at}{retries}"))];
    if now.is_paused == Some(true) {
        parts.push(Span::raw("  "));
        parts.push(Span::styled("PAUSED", trouble(view, true)));
    }
    Line::from(parts)
}

fn footer(view: &View) -> Line<'_> {
    let text = match (&view.asks, &view.message) {
        (Some(Question::Claim(consumer)), _) => {
            format!("hand on everything that {consumer} holds? y = yes, any other key = no")
        }
        (Some(Question::Pause), _) => {
            "pause: the workers take nothing new? y = yes, any other key = no".to_owned()
        }
        (Some(Question::Drain), _) => {
            "drain: the workers finish what they have and take nothing new? y = yes".to_owned()
        }
        (Some(Question::Resume), _) => {
            "resume: the workers go on? y = yes, any other key = no".to_owned()
        }
        (None, Some(message)) => format!("{message}   [q quit]"),
        (None, None) => {
            "q quit   up/down choose a consumer   c claim from it   p pause   d drain   r resume"
                .to_owned()
        }
    };
    Line::styled(text, Style::new().add_modifier(Modifier::REVERSED))
}

fn draw_lanes(frame: &mut Frame<'_>, area: Rect, view: &View, lanes: &[LaneRow]) {
    if let Some(Err(why)) = view.now.as_ref().map(|now| &now.lanes) {
        return draw_trouble(frame, area, view, "LANES", why);
    }
    let row = |row: &LaneRow| {
        let seen = &row.seen;
        let lag = seen.lag.map_or_else(|| "unknown".to_owned(), grouped);
        let oldest = seen.oldest.map_or_else(|| "-".to_owned(), span);
        let old = seen.oldest.is_some_and(|age| age >= OLD);
        Row::new(vec![
            Cell::from(seen.lane.as_str()),
            number(rate(row.came)),
            number(rate(row.done)),
            number(lag),
            number(grouped(seen.pending)),
            number(oldest).style(trouble(view, old)),
            number(grouped(seen.length)),
        ])
    };
    let widths = [8, 10, 10, 12, 10, 10, 12].map(Constraint::Length);
    let head = [
        "LANE", "in/s", "done/s", "lag", "pending", "oldest", "length",
    ];
    let table = Table::new(lanes.iter().map(row), widths).header(titles(view, head));
    frame.render_widget(table, area);
}

fn draw_members(frame: &mut Frame<'_>, area: Rect, view: &View, members: &[MemberRow]) {
    let row = |row: &MemberRow| {
        let errors = row.error_rate_percent;
        let errors = errors.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2} %"));
        let old = row.member.idle >= OLD && row.member.pending > 0;
        Row::new(vec![
            Cell::from(row.member.name.clone()),
            number(rate(row.rate)),
            number(grouped(row.member.pending)),
            number(span(row.member.idle)).style(trouble(view, old)),
            number(errors),
        ])
    };
    let widths = [
        Constraint::Min(12),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(10),
    ];
    let head = ["CONSUMER", "done/s", "pending", "idle", "errors"];
    let rows: Vec<Row<'_>> = match members {
        [] => vec![Row::new(["none"])],
        members => members.iter().map(row).collect(),
    };
    let table = Table::new(rows, widths)
        .header(titles(view, head))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let chosen = (!members.is_empty()).then(|| view.chosen());
    let mut state = TableState::default().with_selected(chosen);
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_letters(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let Some(now) = &view.now else { return };
    let (count, letters) = match &now.letters {
        Ok(letters) => letters,
        Err(why) => return draw_trouble(frame, area, view, "DEAD LETTERS", why),
    };
    let title = format!("DEAD LETTERS {}", grouped(*count));
    let row = |head: &ratebox_store::LetterHead| {
        let at = head.last_failed_at.strftime("%m-%d %H:%M:%S").to_string();
        Row::new(vec![
            Cell::from(at),
            Cell::from(head.class.as_str()),
            Cell::from(head.code.clone()),
            Cell::from(head.state.as_str()),
        ])
    };
    let widths = [
        Constraint::Length(16),
        Constraint::Length(10),
        Constraint::Min(10),
        Constraint::Length(9),
    ];
    let head = Row::new([title, "class".into(), "code".into(), "state".into()]);
    let head = head.style(bold().patch(trouble(view, *count > 0)));
    frame.render_widget(
        Table::new(letters.iter().map(row), widths).header(head),
        area,
    );
}

fn draw_errors(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let Some(now) = &view.now else { return };
    let errors = match &now.errors {
        Ok(errors) => errors,
        Err(why) => return draw_trouble(frame, area, view, "ERRORS (1 h)", why),
    };
    let row = |error: &ratebox_store::TopError| {
        Row::new(vec![
            Cell::from(error.code.to_string()),
            Cell::from(error.field.clone().unwrap_or_default()),
            number(grouped(error.count)),
            Cell::from(mask_message(&error.message)),
        ])
    };
    let widths = [
        Constraint::Length(12),
        Constraint::Length(13),
        Constraint::Length(12),
        Constraint::Min(10),
    ];
    let head = ["ERRORS (1 h)", "field", "count", "message"];
    let rows = errors.iter().map(row);
    frame.render_widget(Table::new(rows, widths).header(titles(view, head)), area);
}

/// A part that could not be asked says so in its place.
fn draw_trouble(frame: &mut Frame<'_>, area: Rect, view: &View, title: &str, why: &str) {
    let text = vec![
        Line::styled(title.to_owned(), bold()),
        Line::styled(why.to_owned(), trouble(view, true)),
    ];
    frame.render_widget(Paragraph::new(text), area);
}

fn titles<const N: usize>(view: &View, names: [&'static str; N]) -> Row<'static> {
    let style = match view.colour {
        true => bold().fg(Color::Cyan),
        false => bold(),
    };
    let mut cells = names.into_iter();
    let first = cells.next().map(Cell::from);
    let rest = cells.map(|name| match name {
        "field" | "message" => Cell::from(name),
        name => number(name.to_owned()),
    });
    Row::new(first.into_iter().chain(rest)).style(style)
}

fn number(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

fn rate(rate: Option<f64>) -> String {
    match rate {
        Some(rate) if rate >= 100.0 => grouped(rate as u64),
        Some(rate) => format!("{rate:.1}"),
        None => "-".to_owned(),
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Never by colour alone.
fn trouble(view: &View, is_trouble: bool) -> Style {
    match (is_trouble, view.colour) {
        (false, _) => Style::new(),
        (true, true) => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        (true, false) => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratebox_kit::Timestamp;
    use ratebox_stream::Lane;

    use super::super::sample::{LaneSeen, Member, Sample};
    use super::*;

    fn sample(second: i64, appended: u64) -> Sample {
        let mut sample = Sample::unknown(Timestamp::from_second(1_700_000_000 + second).unwrap());
        let lane = |lane| LaneSeen {
            lane,
            length: 1_000,
            appended,
            lag: Some(40),
            pending: 7,
            oldest: Some(Duration::from_secs(90)),
        };
        sample.lanes = Ok(Lane::ALL.map(lane).to_vec());
        sample.members = (0..30)
            .map(|number| Member {
                name: format!("worker-{number:02}"),
                pending: 3,
                idle: Duration::from_millis(20),
            })
            .collect();
        sample
    }

    fn view() -> View {
        let mut view = View::new(false);
        view.learn(sample(0, 1_000));
        view.learn(sample(2, 1_500));
        view
    }

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer();
        let cells = buffer.content().chunks(usize::from(width.max(1)));
        let line = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(|cell| cell.symbol()).collect::<String>()
        };
        cells.map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn rates_lag_and_members_are_on_the_screen() {
        let screen = drawn(&view(), 100, 60);
        for word in [
            "2023-11-14 22:13:22 UTC",
            "250",
            "1 min",
            "worker-29",
            "DEAD LETTERS 0",
        ] {
            assert!(screen.contains(word), "{word} is missing:\n{screen}");
        }
        let normal = screen
            .lines()
            .find(|line| line.starts_with("normal"))
            .unwrap();
        let cells: Vec<&str> = normal.split_whitespace().collect();
        assert_eq!(
            cells,
            ["normal", "250", "250", "40", "7", "1", "min", "1,000"]
        );
    }

    #[test]
    fn every_size_is_drawn_and_the_chosen_consumer_stays_in_sight() {
        let mut view = view();
        for (width, height) in [
            (1, 1),
            (3, 2),
            (20, 5),
            (40, 10),
            (80, 24),
            (300, 100),
            (80, 3),
        ] {
            drawn(&view, width, height);
        }
        view.choose(29);
        let screen = drawn(&view, 80, 24);
        assert!(screen.contains("worker-29"), "{screen}");
        assert!(
            screen.lines().last().unwrap().contains("q quit"),
            "{screen}"
        );
        drawn(&View::new(true), 10, 2);
    }

    #[test]
    fn without_colour_there_is_none_and_trouble_is_still_told() {
        let colours = |colour: bool| {
            let mut view = view();
            view.colour = colour;
            let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
            terminal.draw(|frame| draw(frame, &view)).unwrap();
            let cells = terminal.backend().buffer().content().to_vec();
            let coloured = cells.iter().filter(|cell| cell.fg != Color::Reset).count();
            let underlined = cells
                .iter()
                .filter(|cell| cell.modifier.contains(Modifier::UNDERLINED));
            (coloured, underlined.count())
        };
        let ((some, _), (none, underlined)) = (colours(true), colours(false));
        assert!(some > 0 && none == 0 && underlined > 0);
    }

    #[test]
    fn what_cannot_be_asked_is_said_in_its_place() {
        let mut view = View::new(false);
        let mut broken = sample(0, 0);
        broken.lanes = Err("the bus cannot be reached".to_owned());
        broken.letters = Err("the database cannot be reached".to_owned());
        view.learn(broken);
        let screen = drawn(&view, 80, 60);
        assert!(screen.contains("the bus cannot be reached"), "{screen}");
        assert!(
            screen.contains("the database cannot be reached"),
            "{screen}"
        );
        assert!(screen.contains("ERRORS (1 h)"));
    }
}
