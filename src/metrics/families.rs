//! Families of the `prometheus` crate, built from numbers that were counted elsewhere.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// Pairs of name and value.
type Labels<'l> = [(&'l str, &'l str)];

pub(super) fn counters(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    family(name, help, MetricType::COUNTER, metrics)
}

pub(super) fn labelled_counter(value: u64, labels: &Labels<'_>) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_counter(counter);
    metric
}

pub(super) fn gauge(name: &str, help: &str, value: f64, labels: &Labels<'_>) -> MetricFamily {
    gauge_family(name, help, vec![level(value, labels)])
}

pub(super) fn gauge_family(name: &str, help: &str, levels: Vec<Metric>) -> MetricFamily {
    family(name, help, MetricType::GAUGE, levels)
}

/// One gauge for each `(label, its value, level)`.
pub(super) fn gauges(name: &str, help: &str, levels: &[(&str, &str, f64)]) -> MetricFamily {
    let metrics = levels.iter().map(|&(label, text, value)| level(value, &[(label, text)]));
    family(name, help, MetricType::GAUGE, metrics.collect())
}

/// Counts by bucket, the one without a bound last, and the sum in seconds.
pub(super) type Observed<const N: usize> = ([u64; N], f64);

/// One histogram for each set of labels. The encoder adds the bucket without a bound from the count.
pub(super) fn histograms<const N: usize>(
    name: &str,
    help: &str,
    bounds: &[f64],
    observed: Vec<(Vec<(&str, &str)>, Observed<N>)>,
) -> MetricFamily {
    let metrics = observed.into_iter().map(|(labels, (counts, sum))| {
        let mut count = 0;
        let buckets = bounds.iter().zip(counts).map(|(bound, more)| {
            count += more;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = Metric::from_label(pairs(&labels));
        metric.set_histogram(histogram);
        metric
    });
    family(name, help, MetricType::HISTOGRAM, metrics.collect())
}

pub(super) fn level(value: f64, labels: &Labels<'_>) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_gauge(gauge);
    metric
}

fn pairs(labels: &Labels<'_>) -> Vec<LabelPair> {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
