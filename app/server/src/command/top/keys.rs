//! From a key to a wish. What changes something is asked about first.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::view::{Question, View};

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing that the view has not done already.
    Nothing,
    /// To leave.
    Quit,
    /// To hand on what this consumer holds.
    Claim(String),
    /// That the workers take nothing new.
    Pause,
    /// That they go on.
    Resume,
}

/// What an event asks for; a resize is drawn by the next frame anyway.
pub(super) fn wish(event: &Event, view: &mut View) -> Wish {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Press => of_key(*key, view),
        _ => Wish::Nothing,
    }
}

fn of_key(key: KeyEvent, view: &mut View) -> Wish {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('c') {
        return Wish::Quit;
    }
    if let Some(question) = view.asks.take() {
        return answer(key.code, question, view);
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
        KeyCode::Up | KeyCode::Char('k') => view.choose(-1),
        KeyCode::Down | KeyCode::Char('j') => view.choose(1),
        KeyCode::Char('c') => match view.chosen_member() {
            Some(member) => view.asks = Some(Question::Claim(member.name.clone())),
            None => view.say("there is no consumer to claim from"),
        },
        KeyCode::Char('p') => view.asks = Some(Question::Pause),
        KeyCode::Char('d') => view.asks = Some(Question::Drain),
        KeyCode::Char('r') => view.asks = Some(Question::Resume),
        _ => {}
    }
    Wish::Nothing
}

fn answer(key: KeyCode, question: Question, view: &mut View) -> Wish {
    if !matches!(key, KeyCode::Char('y' | 'Y')) {
        view.say("nothing was changed");
        return Wish::Nothing;
    }
    match question {
        Question::Claim(consumer) => Wish::Claim(consumer),
        Question::Pause => Wish::Pause,
        Question::Drain => {
            view.drains = true;
            Wish::Pause
        }
        Question::Resume => {
            view.drains = false;
            Wish::Resume
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratebox_kit::Timestamp;

    use ratebox_stream::Lane;

    use super::super::sample::{LaneSeen, Member, Sample};
    use super::*;

    fn press(code: KeyCode, view: &mut View) -> Wish {
        wish(&Event::Key(KeyEvent::from(code)), view)
    }

    #[test]
    fn a_claim_is_asked_about_first() {
        let mut view = View::new(false);
        let mut sample = Sample::unknown(Timestamp::UNIX_EPOCH);
        sample.members = ["a", "b"]
            .map(|name| Member {
                name: name.to_owned(),
                pending: 1,
                idle: Duration::ZERO,
            })
            .to_vec();
        view.learn(sample);
        press(KeyCode::Down, &mut view);
        press(KeyCode::Down, &mut view);
        assert_eq!(press(KeyCode::Char('c'), &mut view), Wish::Nothing);
        assert_eq!(view.asks, Some(Question::Claim("b".to_owned())));
        assert_eq!(press(KeyCode::Char('n'), &mut view), Wish::Nothing);
        press(KeyCode::Char('c'), &mut view);
        let wish = press(KeyCode::Char('y'), &mut view);
        assert_eq!(wish, Wish::Claim("b".to_owned()));
        assert_eq!(press(KeyCode::Char('q'), &mut view), Wish::Quit);
    }

    #[test]
    fn pause_drain_and_resume_are_asked_about_first() {
        let mut view = View::new(false);
        for (key, wish) in [('p', Wish::Pause), ('d', Wish::Pause), ('r', Wish::Resume)] {
            assert_eq!(press(KeyCode::Char(key), &mut view), Wish::Nothing);
            assert_eq!(press(KeyCode::Char('n'), &mut view), Wish::Nothing);
            assert_eq!(view.message.as_deref(), Some("nothing was changed"));
            press(KeyCode::Char(key), &mut view);
            assert_eq!(press(KeyCode::Char('y'), &mut view), wish, "{key}");
        }
    }

    #[test]
    fn a_drain_tells_what_is_left_until_nothing_is_in_work() {
        let mut view = View::new(false);
        press(KeyCode::Char('d'), &mut view);
        press(KeyCode::Char('y'), &mut view);
        for (pending, said) in [(7, "draining: 7"), (0, "drained: nothing")] {
            let mut sample = Sample::unknown(Timestamp::UNIX_EPOCH);
            sample.lanes = Ok(vec![LaneSeen {
                lane: Lane::Low,
                length: 9,
                appended: 9,
                lag: Some(2),
                pending,
                oldest: None,
            }]);
            view.learn(sample);
            let message = view.message.clone().unwrap();
            assert!(message.starts_with(said), "{message}");
        }
        assert!(!view.drains);
    }
}
