//! What grpcurl does, in a hundred lines: learn the services by reflection, send JSON, read JSON.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tokio_stream::StreamExt as _;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic_reflection::pb::{v1, v1alpha};

/// Services by reflection v1.
pub(crate) async fn list(channel: Channel) -> Vec<String> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(ask)).await;
    let answer = answers.expect("answers").into_inner().message().await.expect("answers");
    match answer.and_then(|a| a.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("expected a list of services, got {other:?}"),
    }
}

/// Services by reflection v1alpha, which older grpcurl asks.
pub(crate) async fn list_v1alpha(channel: Channel) -> Vec<String> {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(ask)).await;
    let answer = answers.expect("answers").into_inner().message().await.expect("answers");
    match answer.and_then(|a| a.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("expected a list of services, got {other:?}"),
    }
}

/// Everything that a symbol needs, as the server describes it.
async fn describe(channel: Channel, symbol: &str) -> DescriptorPool {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel);
    let mut wanted = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
    let mut files: Vec<prost_types::FileDescriptorProto> = Vec::new();
    while let Some(request) = wanted.pop() {
        let ask =
            v1::ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let answers = client.server_reflection_info(tokio_stream::once(ask)).await;
        let answer = answers.expect("answers").into_inner().message().await.expect("answers");
        let Some(MessageResponse::FileDescriptorResponse(found)) =
            answer.and_then(|a| a.message_response)
        else {
            panic!("the server does not describe {symbol}");
        };
        for bytes in found.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(&bytes[..]).expect("a descriptor");
            if files.iter().any(|known| known.name == file.name) {
                continue;
            }
            wanted.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
            files.push(file);
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_set(prost_types::FileDescriptorSet { file: files })
        .expect("consistent");
    pool
}

/// Calls `package.Service/Method` with a JSON request; the first answers of a stream, all of a plain call.
pub(crate) async fn call(
    channel: Channel,
    method: &str,
    json: &str,
) -> Result<Vec<serde_json::Value>, Status> {
    let (service, name) = method.split_once('/').expect("SERVICE/METHOD");
    let pool = describe(channel.clone(), service).await;
    let service = pool.get_service_by_name(service).expect("is described");
    let method = service.methods().find(|m| m.name() == name).expect("is described");
    let mut text = serde_json::Deserializer::from_str(if json.is_empty() { "{}" } else { json });
    let request = DynamicMessage::deserialize(method.input(), &mut text).expect("fits the request");

    let mut grpc = Grpc::new(channel);
    grpc.ready().await.expect("connects");
    let path = format!("/{}/{name}", service.full_name()).parse().expect("a path");
    let request = tonic::Request::new(request.encode_to_vec());
    let answers = grpc.server_streaming(request, path, Raw).await?.into_inner();
    let answers: Vec<_> = answers.take(3).collect().await;
    answers
        .into_iter()
        .map(|bytes| {
            let message =
                DynamicMessage::decode(method.output(), &bytes?[..]).expect("as described");
            Ok(serde_json::to_value(message).expect("is JSON"))
        })
        .collect()
}

/// Bytes as they are: which message they are is known from the description only.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; bytes::Buf::remaining(buffer)];
        bytes::Buf::copy_to_slice(buffer, &mut item);
        Ok(Some(item))
    }
}
