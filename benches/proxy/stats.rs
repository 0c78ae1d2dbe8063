//! Medians and how far they can be trusted, with no assumption on the noise.

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let values = sorted(values);
    let middle = values.len() / 2;
    match values.len() % 2 {
        1 => at(&values, middle),
        _ => (at(&values, middle.saturating_sub(1)) + at(&values, middle)) / 2.0,
    }
}

/// Below which so large a share of them lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let values = sorted(values);
    at(&values, (values.len().saturating_sub(1) as f64 * share).round() as usize)
}

/// The order statistics that hold the true median with a probability of at least 95 % (the widest ones for fewer than six).
pub fn interval(values: &[f64]) -> (f64, f64) {
    let values = sorted(values);
    let n = values.len();
    // How many values fall below the median is binomial(n, ½): cut as many ranks at each end as leave 2.5 % there at most.
    let (mut chance, mut below, mut cut) = (0.5_f64.powi(n as i32), 0.0, 0);
    while cut < n && below + chance <= 0.025 {
        below += chance;
        chance *= (n - cut) as f64 / (cut + 1) as f64;
        cut += 1;
    }
    let low = cut.saturating_sub(1);
    (at(&values, low), at(&values, n.saturating_sub(1 + low)))
}

/// How likely one of `values` is larger than one of `others` (a tie counts half): the Mann-Whitney U statistic over n·m, the
/// area under the curve of a threshold that is to tell the two apart. 0.5: it cannot.
pub fn auc(values: &[f64], others: &[f64]) -> f64 {
    let (values, others) = (sorted(values), sorted(others));
    let wins: f64 = values
        .iter()
        .map(|value| {
            let below = others.partition_point(|other| other < value);
            let up_to = others.partition_point(|other| other <= value);
            (below + up_to) as f64 / 2.0
        })
        .sum();
    wins / (values.len() * others.len()) as f64
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn at(values: &[f64], index: usize) -> f64 {
    values.get(index).copied().unwrap_or(f64::NAN)
}
