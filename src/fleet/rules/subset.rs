//! Which instances of a large role one caller dials.
//!
//! Each instance gets a rank that depends on the caller's key, its id and its weight alone; the caller takes the first *size*
//! (rendezvous hashing, Thaler and Ravishankar 1998). So a caller that restarts takes the same ones, callers spread evenly,
//! and an instance that joins or leaves changes at most one place. With the hash scaled to `u` in (0, 1), the rank is
//! `weight / -ln(u)`: an instance of weight 2 is twice as likely in a subset (Schindelhauer and Schomaker 2005).
//!
//! Of each zone with two instances or more, the best two are taken in any case. If that is more than *size*, the subset is
//! that much larger. A draining instance takes no place; it stays visible if its rank would have one. An ejected instance
//! keeps its place.
//!
//! The hash must not change between releases or platforms, so it stands here. The state begins with zero. For each eight bytes of the
//! text, as a little-endian number and padded with zeros, and at last for its length, the state is combined by exclusive or
//! and mixed as SplitMix64 does (Steele, Lea and Flood 2014). The id follows the key.
//!
//! Failure mode: with few callers the instances get uneven loads, since each caller chooses alone. The number of callers of
//! an instance is binomial: its standard deviation is about `sqrt(callers · size / servers)`.

use std::collections::BTreeMap;

use crate::model::instance::{Availability, Instance, InstanceSet, Zone};

/// How many instances of each zone are taken at least.
const OF_EACH_ZONE: usize = 2;

/// The instances of a set that the caller with this key dials.
pub(crate) fn choose(set: &InstanceSet, size: usize, key: &str) -> InstanceSet {
    if set.len() <= size {
        return set.clone();
    }
    let ranks = ranks(set, key);
    let mut chosen = vec![false; ranks.len()];
    let mut left = size;
    for index in best_of_zones(set, &ranks) {
        chosen[index] = true;
        left = left.saturating_sub(1);
    }
    let is_free = |&(index, instance): &(usize, &Instance)| !chosen[index] && takes_place(instance);
    let free = set.iter().enumerate().filter(is_free);
    let mut free: Vec<_> = free.map(|(index, _)| index).collect();
    let last = left.min(free.len()).checked_sub(1);
    let worst = last.map(|last| {
        let (_, &mut worst, _) = free.select_nth_unstable_by_key(last, |&at| order(&ranks, at));
        worst
    });
    for &index in &free[..last.map_or(0, |last| last + 1)] {
        chosen[index] = true;
    }
    let worst = worst.map_or(u64::MAX, |worst| ranks[worst]);
    let mut places = chosen.iter().zip(&ranks);
    set.filtered(|instance| {
        let place = places.next();
        place
            .is_some_and(|(&is_chosen, &rank)| is_chosen || !takes_place(instance) && rank >= worst)
    })
}

fn takes_place(instance: &Instance) -> bool {
    instance.availability() != Availability::Draining
}

/// Orders positions from the best rank to the worst.
fn order(ranks: &[u64], index: usize) -> (u64, usize) {
    (u64::MAX - ranks[index], index)
}

/// The best two of each zone that has two with a weight.
fn best_of_zones(set: &InstanceSet, ranks: &[u64]) -> Vec<usize> {
    let mut zones: BTreeMap<&Zone, Vec<usize>> = BTreeMap::new();
    for (index, instance) in set.iter().enumerate() {
        let Some(zone) = instance.zone() else {
            continue;
        };
        if !takes_place(instance) || instance.weight().get() == 0 {
            continue;
        }
        let best = zones.entry(zone).or_default();
        best.push(index);
        if best.len() > OF_EACH_ZONE {
            best.sort_unstable_by_key(|&at| order(ranks, at));
            best.truncate(OF_EACH_ZONE);
        }
    }
    let best = zones.into_values();
    let best = best.filter(|best| best.len() == OF_EACH_ZONE);
    best.flatten().collect()
}

/// The rank of each instance; a greater one is better.
fn ranks(set: &InstanceSet, key: &str) -> Vec<u64> {
    let key = hash(0, key);
    let weight = set.iter().next().map(Instance::weight);
    let is_even = set.iter().all(|instance| Some(instance.weight()) == weight);
    let rank = |instance: &Instance| {
        // 53 bits, which a float holds exactly.
        let hash = hash(key, instance.id().as_str()) >> 11;
        if is_even {
            // Equal weights do not change the order.
            return hash;
        }
        let unit = (hash as f64 + 0.5) / (1_u64 << 53) as f64;
        // Floats that are not negative are ordered as their bits are.
        (f64::from(instance.weight().get()) / -unit.ln()).to_bits()
    };
    set.iter().map(rank).collect()
}

fn hash(state: u64, text: &str) -> u64 {
    let mut words = text.as_bytes().chunks_exact(8);
    let mut state = state;
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        state = mix(state ^ word);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        state = mix(state ^ u64::from_le_bytes(word));
    }
    mix(state ^ text.len() as u64)
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn instance(number: usize) -> Instance {
        Instance::new(format!("worker-{number}"), ([127, 0, 0, 1], 80))
    }

    fn set(numbers: impl IntoIterator<Item = usize>) -> InstanceSet {
        numbers.into_iter().map(instance).collect()
    }

    fn ids(set: &InstanceSet) -> BTreeSet<&str> {
        set.iter().map(|instance| instance.id().as_str()).collect()
    }

    /// If this fails, all callers would change their subsets with an upgrade.
    #[test]
    fn the_hash_is_the_documented_one() {
        assert_eq!(hash(0, ""), 0xe220_a839_7b1d_cdaf);
        assert_eq!(hash(0, "pod-7"), 0xdd94_1077_9a6f_e020);
        assert_eq!(
            hash(hash(0, "pod-7"), "worker-12345"),
            0x4425_2ded_abf9_d9e8
        );
    }

    #[test]
    fn a_caller_that_restarts_has_the_same_subset_and_another_has_its_own() {
        let set = set(0..1000);
        let chosen = choose(&set, 20, "pod-7");
        assert_eq!(chosen.len(), 20);
        assert_eq!(chosen, choose(&set, 20, "pod-7"));
        let other = choose(&set, 20, "pod-8");
        let common = ids(&chosen).intersection(&ids(&other)).count();
        assert!(common <= 4, "{common} of 20 in common, 0.4 expected");
    }

    #[test]
    fn a_set_that_is_not_larger_is_taken_whole() {
        let set = set(0..20);
        assert_eq!(choose(&set, 20, "pod"), set);
        assert_eq!(
            choose(&InstanceSet::empty(), 20, "pod"),
            InstanceSet::empty()
        );
    }

    #[test]
    fn instances_that_join_or_leave_one_by_one_change_one_place_each() {
        for key in ["a", "b", "c"] {
            let mut before = choose(&set(0..100), 20, key);
            let mut changes = 0;
            for size in 101..=200 {
                let after = choose(&set(0..size), 20, key);
                let joined = ids(&after).difference(&ids(&before)).count();
                assert!(joined <= 1, "{joined} joined with one new instance");
                changes += joined;
                before = after;
            }
            // Each new one is among the first 20 of n with the chance 20/n: 20 ln 2 = 13.9.
            assert!((4..=28).contains(&changes), "{changes} changes");
            for gone in 0..200 {
                let after = choose(&set((0..200).filter(|&n| n != gone)), 20, key);
                assert!(ids(&after).difference(&ids(&before)).count() <= 1);
            }
        }
    }

    #[test]
    fn callers_spread_evenly_and_by_weight() {
        let weighted = |n: usize| instance(n).with_weight(if n < 20 { 3 } else { 1 });
        let set: InstanceSet = (0..100).map(weighted).collect();
        let mut counts = [0_u32; 100];
        for caller in 0..5000 {
            let chosen = choose(&set, 5, &format!("pod-{caller}"));
            for instance in &chosen {
                let id = instance.id().as_str();
                counts[id["worker-".len()..].parse::<usize>().unwrap()] += 1;
            }
        }
        let heavy = counts[..20].iter().sum::<u32>() as f64 / 20.0;
        let light = counts[20..].iter().sum::<u32>() as f64 / 80.0;
        let ratio = heavy / light;
        assert!((2.6..3.1).contains(&ratio), "{ratio}");
        // The standard deviation of the light ones is 13; the worst of 80 stays within four of them.
        let worst = counts[20..].iter().map(|&n| (f64::from(n) - light).abs());
        assert!(worst.fold(0.0, f64::max) < 4.0 * light.sqrt());
    }

    #[test]
    fn each_zone_with_two_instances_has_two_of_them_in_every_subset() {
        // One zone of 96, one of two, one of two of which one drains, and one of one.
        let zoned = |n: usize| {
            let zone = match n {
                0 | 1 => "b",
                2 | 3 => "c",
                4 => "d",
                _ => "a",
            };
            let instance = instance(n).with_zone(Zone::new(zone).unwrap());
            match n {
                3 => instance.with_availability(Availability::Draining),
                _ => instance,
            }
        };
        let set: InstanceSet = (0..101).map(zoned).collect();
        let of = |chosen: &InstanceSet, zone: &str| {
            let zones = chosen.iter().filter_map(Instance::zone);
            zones.filter(|of| of.as_str() == zone).count()
        };
        let mut alone = 0;
        for caller in 0..50 {
            let chosen = choose(&set, 5, &format!("pod-{caller}"));
            assert!(of(&chosen, "b") == 2 && of(&chosen, "a") >= 2);
            alone += of(&chosen, "c") + of(&chosen, "d");
            let places = chosen.iter().filter(|instance| takes_place(instance));
            assert_eq!(places.count(), 5);
            // Two zones have two with a place; a smaller size does not take them away.
            assert!(choose(&set, 1, &format!("pod-{caller}")).len() >= 4);
        }
        assert!(alone < 50, "no place is kept for a zone of one");
    }

    #[test]
    fn a_draining_instance_gives_its_place_away_and_stays_visible() {
        let all = set(0..100);
        let before = choose(&all, 10, "pod");
        let drained = before.iter().next().unwrap().id().clone();
        let drain = |instance: &Instance| match *instance.id() == drained {
            true => instance.clone().with_availability(Availability::Draining),
            false => instance.clone(),
        };
        let during: InstanceSet = all.iter().map(drain).collect();
        let during = choose(&during, 10, "pod");
        assert_eq!(during.len(), 11);
        assert!(ids(&during).is_superset(&ids(&before)));
    }

    #[test]
    fn weight_zero_takes_the_last_places() {
        let weighted = |n: usize| instance(n).with_weight(u16::from(n.is_multiple_of(2)));
        let set: InstanceSet = (0..100).map(weighted).collect();
        let chosen = choose(&set, 40, "pod");
        assert!(chosen.iter().all(|instance| instance.weight().get() == 1));
        assert_eq!(choose(&set, 60, "pod").len(), 60);
    }
}
