# Stubs, which live as long as the program, each with a channel of its own.
require "grpc"

class Stubs
  def initialize
    @stubs = {}
  end

  def stub(order)
    key = order.values_at("target", "tls", "service_config", "compression")
    @stubs[key] ||= GRPC::ClientStub.new(
      order["target"], credentials(order["tls"]),
      channel_args: arguments(order["service_config"], order["compression"])
    )
  end

  private

  def credentials(tls)
    return :this_channel_is_insecure unless tls

    GRPC::Core::ChannelCredentials.new(*tls.values_at("ca", "key", "certificate").map { |path| path && File.read(path) })
  end

  def arguments(config, compression)
    # Else channels with the same arguments share their connections, and it is not known which calls share one.
    arguments = { "grpc.use_local_subchannel_pool" => 1 }
    arguments["grpc.service_config"] = File.read(config) if config
    # A channel compresses all of its calls, or none.
    if compression
      options = GRPC::Core::CompressionOptions.new(default_algorithm: compression.to_sym)
      arguments.merge!(options.to_channel_arg_hash)
    end
    arguments
  end
end
