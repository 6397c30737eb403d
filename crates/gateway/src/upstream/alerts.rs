//! The alert service, as the gateway sees it.

use proto::v1;
use proto::v1::alert_config_service_client::AlertConfigServiceClient;
use proto::v1::alert_service_client::AlertServiceClient;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::{ANSWER_BYTES_MAX, answer_of};

#[derive(Clone, Debug)]
pub(crate) struct Alerts {
    config: AlertConfigServiceClient<proto::Link>,
    now: AlertServiceClient<proto::Link>,
}

/// With who the audit says that it was.
pub(super) fn from_dashboard<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let actor = MetadataValue::try_from(crate::caller::name());
    let actor = actor.unwrap_or_else(|_| MetadataValue::from_static("dashboard"));
    request.metadata_mut().insert("muster-actor", actor);
    request
}

macro_rules! calls {
    ($($name:ident($client:ident: $request:ident) -> $response:ident;)+) => {
        impl Alerts {
            $(pub(crate) async fn $name(&self, message: v1::$request) -> Result<v1::$response, Status> {
                let mut client = self.$client.clone();
                answer_of("alert service", client.$name(from_dashboard(message))).await
            })+
        }
    };
}

calls! {
    list_active(now: ListActiveRequest) -> ListActiveResponse;
    list_history(now: ListHistoryRequest) -> ListHistoryResponse;
    acknowledge(now: AcknowledgeRequest) -> AcknowledgeResponse;
    create_silence(now: CreateSilenceRequest) -> CreateSilenceResponse;
    list_silences(now: ListSilencesRequest) -> ListSilencesResponse;
    end_silence(now: EndSilenceRequest) -> EndSilenceResponse;
    list_dead_notices(now: ListDeadNoticesRequest) -> ListDeadNoticesResponse;
    retry_dead_notice(now: RetryDeadNoticeRequest) -> RetryDeadNoticeResponse;
    list_dead_events(now: ListDeadEventsRequest) -> ListDeadEventsResponse;
    retry_dead_event(now: RetryDeadEventRequest) -> RetryDeadEventResponse;
    discard_dead_event(now: DiscardDeadEventRequest) -> DiscardDeadEventResponse;
    list_rules(config: ListRulesRequest) -> ListRulesResponse;
    get_rule(config: GetRuleRequest) -> GetRuleResponse;
    create_rule(config: CreateRuleRequest) -> CreateRuleResponse;
    update_rule(config: UpdateRuleRequest) -> UpdateRuleResponse;
    delete_rule(config: DeleteRuleRequest) -> DeleteRuleResponse;
    set_rule_enabled(config: SetRuleEnabledRequest) -> SetRuleEnabledResponse;
    test_rule(config: TestRuleRequest) -> TestRuleResponse;
    list_channels(config: ListChannelsRequest) -> ListChannelsResponse;
    create_channel(config: CreateChannelRequest) -> CreateChannelResponse;
    update_channel(config: UpdateChannelRequest) -> UpdateChannelResponse;
    delete_channel(config: DeleteChannelRequest) -> DeleteChannelResponse;
    test_channel(config: TestChannelRequest) -> TestChannelResponse;
}

impl Alerts {
    pub(crate) fn new(link: proto::Link) -> Self {
        Self {
            config: AlertConfigServiceClient::new(link.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            now: AlertServiceClient::new(link).max_decoding_message_size(ANSWER_BYTES_MAX),
        }
    }
}
