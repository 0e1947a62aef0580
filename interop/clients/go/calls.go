package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	// The types of details, which are decoded by their names.
	"google.golang.org/genproto/googleapis/rpc/code"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "interop/pb"
)

// bytesCodec sends bytes as they are, for methods that the .proto does not have and for what is no message.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }

func (bytesCodec) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func message(descriptor protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

// messages returns request and response as the generated types of the method, or as bytes.
func messages(request *Request) (any, any, []grpc.CallOption, error) {
	service, name, _ := strings.Cut(request.Method, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	var method protoreflect.MethodDescriptor
	if err == nil {
		method = found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	}
	if method == nil || request.RequestBytes != nil {
		input := []byte{}
		if request.RequestBytes != nil {
			if input, err = base64.StdEncoding.DecodeString(*request.RequestBytes); err != nil {
				return nil, nil, nil, err
			}
		}
		return &input, &[]byte{}, []grpc.CallOption{grpc.ForceCodec(bytesCodec{})}, nil
	}
	input, err := message(method.Input())
	if err != nil {
		return nil, nil, nil, err
	}
	if err := protojson.Unmarshal(request.Request, input); err != nil {
		return nil, nil, nil, err
	}
	output, err := message(method.Output())
	return input, output, nil, err
}

func call(ctx context.Context, conn *grpc.ClientConn, request *Request) (*Answer, error) {
	input, output, options, err := messages(request)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	var header, trailer metadata.MD
	options = append(options, grpc.Header(&header), grpc.Trailer(&trailer))
	if request.Compression != "" {
		options = append(options, grpc.UseCompressor(request.Compression))
	}
	if fault := conn.Invoke(ctx, "/"+request.Method, input, output, options...); fault != nil {
		answer, err := refused(fault)
		if err == nil {
			answer.Headers, answer.Trailers = pairs(header), pairs(trailer)
		}
		return answer, err
	}
	answer := &Answer{Code: "OK", Headers: pairs(header), Trailers: pairs(trailer)}
	if output, ok := output.(proto.Message); ok {
		answer.Response, err = protojson.Marshal(output)
	}
	return answer, err
}

func refused(fault error) (*Answer, error) {
	state := status.Convert(fault)
	answer := &Answer{Code: code.Code(state.Code()).String(), Message: state.Message(), Details: []json.RawMessage{}}
	for _, detail := range state.Proto().GetDetails() {
		decoded, err := protojson.Marshal(detail)
		if err != nil {
			return nil, fmt.Errorf("detail: %w", err)
		}
		answer.Details = append(answer.Details, decoded)
	}
	return answer, nil
}

func health(ctx context.Context, conn *grpc.ClientConn, request *Request) (*Answer, error) {
	response, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: request.Service})
	if err != nil {
		return refused(err)
	}
	return &Answer{Code: "OK", Statuses: []string{response.Status.String()}}, nil
}

func watch(ctx context.Context, conn *grpc.ClientConn, request *Request) (*Answer, error) {
	stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{Service: request.Service})
	statuses := []string{}
	for err == nil && len(statuses) < request.Count {
		var response *healthpb.HealthCheckResponse
		if response, err = stream.Recv(); err == nil {
			statuses = append(statuses, response.Status.String())
		}
	}
	if err == nil || err == io.EOF {
		return &Answer{Code: "OK", Statuses: statuses}, nil
	}
	answer, err := refused(err)
	if err == nil {
		answer.Statuses = statuses
	}
	return answer, err
}

func reflect(ctx context.Context, conn *grpc.ClientConn, request *Request) (*Answer, error) {
	var names []string
	var err error
	if request.Version == "v1" {
		names, err = services(ctx, conn)
	} else {
		names, err = servicesV1Alpha(ctx, conn)
	}
	if err != nil {
		return refused(err)
	}
	return &Answer{Code: "OK", Services: names}, nil
}

func services(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	kind := &reflectionpb.ServerReflectionRequest_ListServices{ListServices: "*"}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: kind}); err != nil {
		return nil, err
	}
	response, err := stream.Recv()
	names := []string{}
	for _, service := range response.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	return names, err
}

func servicesV1Alpha(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
	stream, err := reflectionv1alphapb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	kind := &reflectionv1alphapb.ServerReflectionRequest_ListServices{ListServices: "*"}
	if err := stream.Send(&reflectionv1alphapb.ServerReflectionRequest{MessageRequest: kind}); err != nil {
		return nil, err
	}
	response, err := stream.Recv()
	names := []string{}
	for _, service := range response.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	return names, err
}
