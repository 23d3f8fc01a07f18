//! The sagas: does one wait for an operator?

use ratebox_kit::Causes;
use ratebox_saga::{Count, Status};
use ratebox_store::Store;

use super::super::figures::grouped;
use super::finding::Finding;
use crate::config::{Config, JournalPlace};
use crate::wiring::saga;

const SAGAS: &str = "sagas";

pub(super) async fn look(config: &Config, store: &Store) -> Finding {
    // Whoever only looks makes no file.
    if let Ok(JournalPlace::Sqlite(file)) = config.saga.place()
        && !file.exists()
    {
        return Finding::ok(SAGAS, "their journal is made at the first start");
    }
    let counted = match saga::sagas(config, store).await {
        Ok(sagas) => {
            let counts = sagas.counts().await;
            counts.map_err(|error| Causes(&error).to_string())
        }
        Err(error) => Err(format!("{error:#}")),
    };
    match counted {
        Ok(counts) => judged(&counts),
        Err(why) => Finding::fail(SAGAS, format!("their journal cannot be read: {why}"))
            .advise("start its server, or correct saga.store_url"),
    }
}

fn judged(counts: &[Count]) -> Finding {
    let parked = counts.iter().filter(|it| it.status == Status::Parked);
    match parked.map(|it| it.sagas).sum::<u64>() {
        0 => Finding::ok(SAGAS, "none is parked"),
        count => {
            let says = format!("{} are parked: they wait for somebody", grouped(count));
            Finding::warn(SAGAS, says).advise(
                "`ratebox saga list --state parked` shows them, `ratebox saga show ID` why; then see \
                 docs/Operating-Sagas.md",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn parked_sagas_of_all_definitions_are_told_and_others_are_not() {
        let count = |definition: &str, status, sagas| Count {
            definition: definition.to_owned(),
            status,
            sagas,
        };
        let sound = [count("order", Status::Completed, 9)];
        assert_eq!(judged(&sound).level, Level::Ok);
        let parked = [
            count("order", Status::Parked, 2),
            count("order", Status::Executing, 5),
            count("refund", Status::Parked, 1),
        ];
        let told = judged(&parked);
        assert_eq!(told.level, Level::Warn);
        let text = told.text();
        assert!(
            text.contains("3 are parked") && text.contains("saga list --state parked"),
            "{text}"
        );
    }
}
