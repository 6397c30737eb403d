//! When a filesystem will be full, if it goes on as it did.

/// What its past says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Forecast {
    /// Days until full.
    Days(f64),
    /// It does not grow, or would take years.
    Flat,
    /// Too little is known, or its ups and downs follow no line.
    Unknown,
}

/// A line through less than this says nothing about days.
const SPAN_HOURS_MIN: f64 = 6.0;
const POINTS_MIN: usize = 6;
/// Share of the ups and downs that a straight line must explain.
const FIT_MIN: f64 = 0.6;
/// What is further away is not worth a date.
const DAYS_MAX: f64 = 730.0;
/// Growth that is less than this share of the whole over all that is known is none.
const GROWTH_MIN: f64 = 0.001;

/// From one share of use for each hour, the latest last; NaN where nothing was read. Least squares.
pub(crate) fn until_full(hours: &[f64]) -> Forecast {
    let points: Vec<(f64, f64)> = hours
        .iter()
        .enumerate()
        .filter(|(_, share)| share.is_finite())
        .map(|(hour, &share)| (hour as f64, share))
        .collect();
    let (Some(&(first, _)), Some(&(last, now))) = (points.first(), points.last()) else {
        return Forecast::Unknown;
    };
    if points.len() < POINTS_MIN || last - first < SPAN_HOURS_MIN {
        return Forecast::Unknown;
    }
    if now >= 1.0 {
        return Forecast::Days(0.0);
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|p| p.0), mean(|p| p.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum()
    };
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    let slope = xy / xx;
    if slope * (last - first) < GROWTH_MIN {
        return Forecast::Flat;
    }
    if xy * xy / (xx * yy) < FIT_MIN {
        return Forecast::Unknown;
    }
    let days = (1.0 - now) / slope / 24.0;
    if days > DAYS_MAX { Forecast::Flat } else { Forecast::Days(days) }
}

impl Forecast {
    pub(crate) fn words(self) -> String {
        match self {
            Self::Days(days) if days < 1.0 => "today".to_owned(),
            Self::Days(days) if days < 100.0 => format!("in {} d", days.floor()),
            Self::Days(days) => format!("in {} months", (days / 30.4).floor()),
            Self::Flat | Self::Unknown => "–".to_owned(),
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Days(_) => "if it goes on as in the last 7 days",
            Self::Flat => "it does not grow",
            Self::Unknown => "the last 7 days do not say",
        }
    }

    /// How much attention it wants, as of other numbers.
    pub(crate) fn level(self) -> &'static str {
        match self {
            Self::Days(days) if days < 2.0 => "full",
            Self::Days(days) if days < 14.0 => "high",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn week(share: impl Fn(f64) -> f64) -> Vec<f64> {
        (0..168).map(|hour| share(f64::from(hour))).collect()
    }

    #[test]
    fn steady_growth_has_a_day() {
        // From 50 % by 0.1 % an hour: 66.7 % now, full 333 hours later.
        let Forecast::Days(days) = until_full(&week(|h| 0.5 + h * 0.001)) else { panic!() };
        assert!((days - 333.0 / 24.0).abs() < 0.1, "{days}");
        let holes = week(|h| if h % 3.0 == 0.0 { f64::NAN } else { 0.5 + h * 0.001 });
        assert!(matches!(until_full(&holes), Forecast::Days(d) if (d - days).abs() < 0.1));
    }

    #[test]
    fn what_says_nothing_is_said_to_say_nothing() {
        fn check(hours: &[f64], expected: Forecast) {
            assert_eq!(until_full(hours), expected, "{:?} …", hours.iter().take(5));
        }
        check(&[], Forecast::Unknown);
        check(&[0.5, 0.6, 0.7], Forecast::Unknown);
        check(&week(|_| f64::NAN), Forecast::Unknown);
        check(&week(|_| 0.5), Forecast::Flat);
        check(&week(|h| 0.9 - h * 0.001), Forecast::Flat);
        // 0.1 % of the whole in ten days.
        check(&week(|h| 0.5 + h * 0.000_000_4), Forecast::Flat);
        // Filled and cleared each day, a little more each time.
        check(&week(|h| 0.4 + (h % 24.0) * 0.02 + h * 0.0002), Forecast::Unknown);
        check(&week(|_| 1.0), Forecast::Days(0.0));
    }

    #[test]
    fn the_nearer_the_louder() {
        let check = |days: f64, words: &str, level: &str| {
            let forecast = Forecast::Days(days);
            assert_eq!((forecast.words().as_str(), forecast.level()), (words, level));
        };
        check(0.3, "today", "full");
        check(5.9, "in 5 d", "high");
        check(45.0, "in 45 d", "");
        check(200.0, "in 6 months", "");
    }
}
