//! Inserting many rows with few statements.

use sqlx::query_builder::Separated;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

/// Rows per statement. A statement costs about 20 µs beside its rows; few different lengths keep the
/// prepared statements few.
const CHUNKS: [usize; 4] = [256, 32, 4, 1];

/// Inserts all rows. `head` is `insert into … (…)`, `tail` what follows the values, such as `on conflict
/// …`; both are texts from the code, and every value is bound.
pub(crate) async fn insert<R>(
    connection: &mut SqliteConnection,
    head: &'static str,
    tail: &'static str,
    rows: impl IntoIterator<Item = R, IntoIter: ExactSizeIterator>,
    mut bind: impl FnMut(&mut Separated<'_, Sqlite, &'static str>, R),
) -> Result<(), sqlx::Error> {
    let mut rows = rows.into_iter();
    for chunk in CHUNKS {
        while rows.len() >= chunk {
            let mut statement = QueryBuilder::<Sqlite>::new(head);
            statement.push(" ");
            statement
                .push_values(rows.by_ref().take(chunk), |mut row, values| bind(&mut row, values));
            statement.push(" ");
            statement.push(tail);
            statement.build().execute(&mut *connection).await?;
        }
    }
    Ok(())
}
