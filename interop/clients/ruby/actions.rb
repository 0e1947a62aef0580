# Each action of the protocol.
require "base64"

require "google/rpc/error_details_pb"
require "grpc"
require "grpc/health/v1/health_services_pb"
require "grpc/reflection/v1/reflection_services_pb"
require "grpc/reflection/v1alpha/reflection_services_pb"
require "huaweicloud/apic/v2/certificate_service_services_pb"
require "stubs"

class Actions
  CERTIFICATES = HuaweiCloud::Apic::V2::CertificateService::Service
  HEALTH = Grpc::Health::V1::Health::Service
  REFLECTION = {
    "v1" => Grpc::Reflection::V1::ServerReflection::Service,
    "v1alpha" => Grpc::Reflection::V1alpha::ServerReflection::Service,
  }.freeze

  # Encoding and decoding of a call whose messages are bytes.
  IDENTITY = :itself.to_proc

  def initialize
    @stubs = Stubs.new
  end

  def run(order)
    case order["action"]
    when "call" then call(order)
    when "health" then health(order)
    when "watch" then watch(order)
    when "reflect" then reflect(order)
    else raise ArgumentError, "no such action: #{order["action"]}"
    end
  end

  private

  def call(order)
    service, name = order["method"].split("/", 2)
    method = CERTIFICATES.rpc_descs[name.to_sym] if service == CERTIFICATES.service_name
    request, encode =
      if method && !order.key?("request_bytes")
        [method.input.decode_json((order["request"] || {}).to_json), method.input.method(:encode)]
      else
        [Base64.decode64(order["request_bytes"] || ""), IDENTITY]
      end
    decode = method ? method.output.method(:decode) : IDENTITY
    report(order) do |options|
      operation = @stubs.stub(order).request_response("/#{order["method"]}", request, encode, decode, **options)
      [operation, ->(response) { { response: method && JSON.parse(response.to_json) } }]
    end
  end

  def health(order)
    report(order) do |options|
      operation = @stubs.stub(order).request_response(*health_call(order, :Check), **options)
      [operation, ->(response) { { statuses: [response.status] } }]
    end
  end

  def watch(order)
    statuses = []
    reported = report(order) do |options|
      operation = @stubs.stub(order).server_streamer(*health_call(order, :Watch), **options)
      [operation, lambda { |responses|
        responses.each do |response|
          statuses << response.status
          break if statuses.size == order["count"]
        end
        operation.cancel
        {}
      }]
    end
    { **reported, statuses: statuses }
  end

  def health_call(order, name)
    method = HEALTH.rpc_descs[name]
    request = Grpc::Health::V1::HealthCheckRequest.new(service: order["service"] || "")
    decode = (method.output.respond_to?(:type) ? method.output.type : method.output).method(:decode)
    ["/#{HEALTH.service_name}/#{name}", request, method.input.method(:encode), decode]
  end

  def reflect(order)
    service = REFLECTION.fetch(order["version"])
    method = service.rpc_descs[:ServerReflectionInfo]
    request, response = method.input.type, method.output.type
    report(order) do |options|
      operation = @stubs.stub(order).bidi_streamer(
        "/#{service.service_name}/ServerReflectionInfo", [request.new(list_services: "")],
        request.method(:encode), response.method(:decode), **options
      )
      [operation, ->(messages) { { services: messages.flat_map { |message| listed(message) } } }]
    end
  end

  def listed(message)
    message.list_services_response&.service.to_a.map(&:name)
  end

  # Makes an operation with the options of the order, and executes it.
  def report(order)
    options = { metadata: metadata(order), return_op: true }
    options[:deadline] = Time.now + order["timeout_ms"] / 1000.0 if order.key?("timeout_ms")
    operation, read = yield options
    canceller = cancel_later(operation, order["cancel_after_ms"])
    answer = read.call(operation.execute)
    {
      code: "OK", message: "", details: [], response: nil,
      headers: entries(operation.metadata), trailers: entries(operation.trailing_metadata), **answer
    }
  rescue GRPC::BadStatus => e
    {
      code: code(e), message: e.details, details: details(e), response: nil,
      headers: entries(operation&.metadata), trailers: entries(e.metadata)
    }
  ensure
    canceller&.kill
  end

  def cancel_later(operation, delay)
    return unless delay

    Thread.new do
      sleep delay / 1000.0
      operation.cancel
    end
  end

  def code(error)
    codes = GRPC::Core::StatusCodes
    codes.constants.find { |name| codes.const_get(name) == error.code }.to_s
  end

  def details(error)
    status = error.to_rpc_status
    status ? status.details.map { |detail| JSON.parse(detail.to_json) } : []
  end

  def metadata(order)
    (order["metadata"] || []).each_with_object({}) do |(name, value), sent|
      (sent[name] ||= []) << (name.end_with?("-bin") ? Base64.decode64(value) : value)
    end
  end

  def entries(received)
    (received || {}).flat_map do |name, values|
      Array(values).map { |value| [name, name.end_with?("-bin") ? Base64.strict_encode64(value) : value] }
    end
  end
end
