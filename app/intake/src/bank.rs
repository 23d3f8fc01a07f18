//! The banks of Vietnam: BIN at the national switch (NAPAS), short name, other names, usual lengths of accounts.
//! Lengths are what banks and payment providers publish; they change, so they only ever make a warning.

/// One bank.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bank {
    /// Six digits at the national switch.
    pub(crate) bin: &'static str,
    /// Short name.
    pub(crate) name: &'static str,
    /// Other names, as unaccented upper-case letters without blanks.
    aliases: &'static [&'static str],
    /// Usual lengths of accounts; empty when nothing is published.
    lengths: &'static [usize],
}

impl Bank {
    /// Whether accounts of this length are usual. Unknown lengths are taken as usual.
    pub(crate) fn has_length(&self, length: usize) -> bool {
        self.lengths.is_empty() || self.lengths.contains(&length)
    }
}

/// The bank with a BIN.
pub(crate) fn by_bin(bin: &str) -> Option<&'static Bank> {
    BANKS.iter().find(|bank| bank.bin == bin)
}

/// Shortest name that is also found at the start of a longer text (`VIETCOMBANKHANOI`).
const PREFIX_LETTERS_MIN: usize = 5;

/// The bank with a name, given as unaccented upper-case letters without blanks.
pub(crate) fn by_alias(letters: &str) -> Option<&'static Bank> {
    if letters.is_empty() {
        return None;
    }
    let exact = BANKS.iter().find(|bank| bank.aliases.contains(&letters));
    exact.or_else(|| {
        BANKS.iter().find(|bank| {
            let long = bank
                .aliases
                .iter()
                .filter(|alias| alias.len() >= PREFIX_LETTERS_MIN);
            long.into_iter().any(|alias| letters.starts_with(alias))
        })
    })
}

const fn bank(
    bin: &'static str,
    name: &'static str,
    aliases: &'static [&'static str],
    lengths: &'static [usize],
) -> Bank {
    Bank {
        bin,
        name,
        aliases,
        lengths,
    }
}

static BANKS: &[Bank] = &[
    bank("970400", "SaigonBank", &["SAIGONBANK", "SGICB", "SGB"], &[]),
    bank(
        "970403",
        "Sacombank",
        &["SACOMBANK", "STB", "SAIGONTHUONGTIN"],
        &[10, 12],
    ),
    bank(
        "970405",
        "Agribank",
        &["AGRIBANK", "VBA", "VBARD", "NONGNGHIEP"],
        &[10, 13],
    ),
    bank(
        "970406",
        "DongABank",
        &["DONGABANK", "DONGA", "DAB", "VIKKI"],
        &[10, 12],
    ),
    bank(
        "970407",
        "Techcombank",
        &["TECHCOMBANK", "TCB", "KYTHUONG"],
        &[10, 12, 14],
    ),
    bank("970408", "GPBank", &["GPBANK", "GPB"], &[]),
    bank("970409", "BacABank", &["BACABANK", "BACA", "BAB"], &[15]),
    bank("970412", "PVcomBank", &["PVCOMBANK", "PVCB"], &[12]),
    bank("970414", "OceanBank", &["OCEANBANK", "OJB", "MBV"], &[16]),
    bank(
        "970415",
        "VietinBank",
        &["VIETINBANK", "VIETTINBANK", "CTG", "ICB", "CONGTHUONG"],
        &[10, 12],
    ),
    bank("970416", "ACB", &["ACB", "ACHAU"], &[6, 7, 8, 9, 10, 14]),
    bank(
        "970418",
        "BIDV",
        &["BIDV", "DAUTUVAPHATTRIEN"],
        &[10, 13, 14],
    ),
    bank("970419", "NCB", &["NCB", "QUOCDAN"], &[10, 11, 12]),
    bank("970421", "VRB", &["VRB"], &[]),
    bank(
        "970422",
        "MBBank",
        &["MBBANK", "MB", "MILITARYBANK", "QUANDOI"],
        &[8, 9, 10, 11, 12, 13],
    ),
    bank(
        "970423",
        "TPBank",
        &["TPBANK", "TPB", "TIENPHONG"],
        &[10, 11],
    ),
    bank(
        "970424",
        "ShinhanBank",
        &["SHINHANBANK", "SHINHAN", "SHBVN"],
        &[12],
    ),
    bank("970425", "ABBANK", &["ABBANK", "ABB", "ANBINH"], &[13]),
    bank(
        "970426",
        "MSB",
        &["MSB", "MARITIMEBANK", "HANGHAI"],
        &[10, 14],
    ),
    bank(
        "970427",
        "VietABank",
        &["VIETABANK", "VIETA", "VAB"],
        &[8, 12],
    ),
    bank("970428", "NamABank", &["NAMABANK", "NAMA", "NAB"], &[15]),
    bank("970429", "SCB", &["SCB"], &[10, 11, 14]),
    bank("970430", "PGBank", &["PGBANK", "PGB"], &[13]),
    bank(
        "970431",
        "Eximbank",
        &["EXIMBANK", "EIB", "XUATNHAPKHAU"],
        &[12, 15],
    ),
    bank(
        "970432",
        "VPBank",
        &["VPBANK", "VPB", "THINHVUONG"],
        &[8, 9, 10, 12],
    ),
    bank("970433", "VietBank", &["VIETBANK"], &[]),
    bank(
        "970434",
        "IndovinaBank",
        &["INDOVINABANK", "INDOVINA", "IVB"],
        &[],
    ),
    bank(
        "970436",
        "Vietcombank",
        &["VIETCOMBANK", "VCB", "NGOAITHUONG"],
        &[10, 13],
    ),
    bank("970437", "HDBank", &["HDBANK", "HDB"], &[10, 15]),
    bank(
        "970438",
        "BaoVietBank",
        &["BAOVIETBANK", "BAOVIET", "BVB"],
        &[],
    ),
    bank("970439", "PublicBank", &["PUBLICBANK", "PBVN"], &[]),
    bank(
        "970440",
        "SeABank",
        &["SEABANK", "SEAB", "DONGNAMA"],
        &[12, 14, 15],
    ),
    bank("970441", "VIB", &["VIB", "QUOCTE"], &[8, 9, 10, 15]),
    bank("970442", "HongLeong", &["HONGLEONG", "HLBVN"], &[]),
    bank("970443", "SHB", &["SHB", "SAIGONHANOI"], &[10, 12]),
    bank("970444", "CBBank", &["CBBANK", "CBB"], &[]),
    bank("970446", "COOPBANK", &["COOPBANK", "HOPTACXA"], &[]),
    bank("970448", "OCB", &["OCB", "PHUONGDONG"], &[10, 16]),
    bank(
        "970449",
        "LPBank",
        &[
            "LPBANK",
            "LPB",
            "LIENVIETPOSTBANK",
            "LIENVIET",
            "BUUDIENLIENVIET",
        ],
        &[10, 12, 13],
    ),
    bank(
        "970452",
        "KienlongBank",
        &["KIENLONGBANK", "KIENLONG", "KLB"],
        &[],
    ),
    bank(
        "970454",
        "BVBank",
        &["BVBANK", "VIETCAPITALBANK", "BANVIET", "VCCB"],
        &[13],
    ),
    bank("970457", "Woori", &["WOORIBANK", "WOORI"], &[12]),
    bank("970458", "UOB", &["UOB", "UNITEDOVERSEAS"], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banks_are_in_order_and_no_name_belongs_to_two() {
        assert!(BANKS.windows(2).all(|pair| pair[0].bin < pair[1].bin));
        let mut names: Vec<_> = BANKS.iter().flat_map(|bank| bank.aliases).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_name_is_found_with_what_follows_it() {
        assert_eq!(by_alias("VCB").map(|bank| bank.bin), Some("970436"));
        assert_eq!(
            by_alias("VIETCOMBANKHANOI").map(|bank| bank.bin),
            Some("970436")
        );
        assert_eq!(by_alias("VCBX"), None);
        assert_eq!(by_alias(""), None);
    }
}
