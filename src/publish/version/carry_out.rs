//! Carries out a plan: delivers it to the mirrors, then switches their heads. A dry run ends with a preview.

use super::plan::Plan;
use super::planned::{Planned, Previewed};
use super::report::Report;
use super::session::Session;
use super::switch::switch;
use crate::error::Error;
use crate::publish::pipeline::deliver::{Sending, deliver};

/// Carries out `plan`, or previews it in a dry run; then only blocks that are not in `previewed` are reported.
///
/// # Errors
/// Too few mirrors got that far; interrupted by the user. A single failed mirror is only noted in the report.
pub async fn carry_out(mut session: Session<'_>, plan: Plan, previewed: &mut Previewed) -> Result<Report, Error> {
    let sending = Sending { uploads: session.start_uploads(), remake: None, deltas: None };
    carry_on(session, plan, sending, previewed).await
}

/// Like [`carry_out`], where the blocks of the image are on their way already.
///
/// # Errors
/// Those of [`carry_out`].
pub async fn carry_on(
    session: Session<'_>,
    plan: Plan,
    sending: Sending,
    previewed: &mut Previewed,
) -> Result<Report, Error> {
    let is_dry_run = session.repository.config.dry_run;
    let planned = Planned::new(session, plan).await?;
    if is_dry_run {
        return planned.preview(previewed, sending.deltas.as_ref()).await;
    }
    switch(deliver(planned, sending).await?).await
}
