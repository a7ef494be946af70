//! Which zone gets a request: the caller's own, unless it costs too much.
//!
//! A pick draws among the members of the caller's zone, as if there were no others. If the best one costs more than
//! `zone_price` times what members elsewhere cost lately, the pick looks at the cheaper of two members elsewhere, and takes
//! that one if it is cheaper by the same factor. So one rule covers a zone that is lost, slow, erring, full or small: each of
//! these shows in the cost, and requests leave one by one, as many as it takes.
//!
//! What members elsewhere cost lately is an average over the members looked at; until there is one, it is the cost of an idle
//! member with the fleet's mean latency. One pick in [`LOOK`] looks elsewhere whatever its own zone costs. Otherwise a zone
//! that was slow when it was last looked at would count as slow for ever.
//!
//! - A caller without a zone has no preference. Neither has one whose zone has no pickable member.
//! - An instance without a zone counts as being in the caller's: nothing is known against it.
//! - A retry that avoids a member of the own zone begins elsewhere, and its own zone has to be cheaper by the factor.
//! - In a zone of two or more eligible members, at most that zone's [cap](super::cap) is ejected by the rules. If a whole zone
//!   fails, half of it stays in play and is passed over because it costs too much, and the ejections left by the fleet's cap
//!   remain for other zones. A zone of one counts only towards the fleet's cap.

/// One pick in this many looks at other zones, whatever its own costs.
pub(crate) const LOOK: u64 = 32;

/// Whether a member elsewhere is cheaper than one in the own zone by the factor of the price.
pub(crate) fn is_cheaper(elsewhere: f32, own: f32, price: f32) -> bool {
    elsewhere * price < own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_stay_at_equal_cost_and_leave_for_less_than_the_price() {
        assert!(!is_cheaper(1.0, 1.0, 1.0));
        assert!(!is_cheaper(1.0, 2.0, 2.0) && is_cheaper(1.0, 2.1, 2.0));
        // A member at its cap costs infinitely much.
        assert!(is_cheaper(1.0, f32::INFINITY, 1000.0));
        assert!(!is_cheaper(f32::INFINITY, f32::INFINITY, 2.0));
    }
}
