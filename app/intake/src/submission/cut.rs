//! Cuts the datasets of a bulk import into requests. Whoever cuts the same import gets the same
//! requests with the same ids, so that a cut that is made again is known as the same.

use uuid::Uuid;

use super::{Submission, Terms};
use crate::ids::part_id;
use crate::request::Request;

/// What all requests of an import have in common.
#[derive(Debug, Clone)]
pub struct Cut<'a> {
    /// The import, a UUIDv7; its time is when the server accepted it.
    pub import: Uuid,
    /// The account that the import belongs to.
    pub owner: &'a str,
    /// What the client left open.
    pub defaults: &'a Terms,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// Items of one request at most.
    pub items_max: usize,
}

/// One request of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number within the import, from 0.
    pub number: u32,
    /// The number of its dataset, from 0.
    pub dataset: u32,
    /// The request.
    pub request: Request,
}

impl Cut<'_> {
    /// The requests, in order: each dataset is one or more of them, and none holds items of two.
    /// A dataset without a name gets `dataset_` and its number.
    pub fn parts(&self, datasets: Vec<Submission>) -> Vec<Part> {
        let mut parts = Vec::with_capacity(datasets.len());
        for (dataset, mut it) in (0_u32..).zip(datasets) {
            let terms = &mut it.terms;
            let name = terms.batch_id.take();
            terms.batch_id = Some(name.unwrap_or_else(|| format!("dataset_{dataset}")));
            self.cut(dataset, it, &mut parts);
        }
        parts
    }

    fn cut(&self, dataset: u32, whole: Submission, parts: &mut Vec<Part>) {
        let Submission { items, terms } = whole;
        let mut items = items.into_iter();
        loop {
            let piece: Vec<_> = items.by_ref().take(self.items_max.max(1)).collect();
            if piece.is_empty() {
                return;
            }
            let number = u32::try_from(parts.len()).unwrap_or(u32::MAX);
            let piece = Submission {
                items: piece,
                terms: terms.clone(),
            };
            let id = part_id(self.import, number);
            let mut request = piece.into_request(id, self.owner, self.defaults);
            request.traceparent = self.traceparent.map(str::to_owned);
            parts.push(Part {
                number,
                dataset,
                request,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_bulk;

    const IMPORT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

    fn cut(items_max: usize, body: &str) -> Vec<Part> {
        let defaults = Terms {
            source: Some("importer".to_owned()),
            ..Terms::default()
        };
        let cut = Cut {
            import: IMPORT,
            owner: "ann",
            defaults: &defaults,
            traceparent: None,
            items_max,
        };
        cut.parts(parse_bulk(body.as_bytes(), 10, 100).unwrap())
    }

    #[test]
    fn datasets_are_cut_in_order_and_never_joined() {
        let body = r#"{"datasets":[{"id":"a","items":[{"n":0},{"n":1},{"n":2}]},
            {"source":"x","items":[{"n":3}]},{"id":"a","items":[{"n":4},{"n":5}]}]}"#;
        let parts = cut(2, body);
        let shape: Vec<_> = parts
            .iter()
            .map(|part| {
                let request = &part.request;
                let name = request.batch_id.as_deref().unwrap();
                (part.number, part.dataset, name, request.items.len())
            })
            .collect();
        let expected = [
            (0, 0, "a", 2),
            (1, 0, "a", 1),
            (2, 1, "dataset_1", 1),
            (3, 2, "a", 2),
        ];
        assert_eq!(shape, expected);
        let numbers: Vec<_> = parts.iter().flat_map(|part| &part.request.items).collect();
        let numbers: Vec<_> = numbers.iter().map(|item| item.json().to_owned()).collect();
        assert_eq!(
            numbers.join(""),
            r#"{"n":0}{"n":1}{"n":2}{"n":3}{"n":4}{"n":5}"#
        );
        assert_eq!(
            (&*parts[0].request.source, &*parts[2].request.source),
            ("importer", "x")
        );
    }

    #[test]
    fn the_same_import_is_cut_into_the_same_requests_whose_ids_sort_by_number() {
        let items = vec!["{}"; 60].join(",");
        let body = format!(r#"{{"datasets":[{{"items":[{items}]}}]}}"#);
        let (once, again) = (cut(1, &body), cut(1, &body));
        assert_eq!(once, again);
        let ids: Vec<Uuid> = once.iter().map(|part| part.request.request_id).collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|two| two[0] != two[1]));
        let request = &once[0].request;
        assert_eq!(request.accepted_at().as_millisecond(), 0x0190_0000_0000);
        assert_eq!(ids[0].get_version_num(), 7);
    }
}
