package main

import (
	"context"
	"fmt"
	"sort"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	service = "huaweicloud.apic.v2.CertificateService"
	method  = "/" + service + "/AttachDomains"
)

// gateway is a connection, and the method as the gateway describes it.
type gateway struct {
	address string
	conn    *grpc.ClientConn
	method  protoreflect.MethodDescriptor
	// seen holds the types of all details so far.
	seen map[string]bool
}

// answer is what came of a call, with its details by type.
type answer struct {
	code     codes.Code
	message  string
	metadata metadata.MD
	details  map[string]proto.Message
}

func connect(ctx context.Context, address string, options ...grpc.DialOption) (*gateway, error) {
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient(address, options...)
	if err != nil {
		return nil, err
	}
	files, err := describe(ctx, conn, service)
	if err != nil {
		return nil, err
	}
	found, err := files.FindDescriptorByName(service)
	if err != nil {
		return nil, err
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName("AttachDomains")
	if method == nil {
		return nil, fmt.Errorf("%s has no method AttachDomains", service)
	}
	return &gateway{address: address, conn: conn, method: method, seen: map[string]bool{}}, nil
}

// attach makes a call whose request is given as JSON.
func (g *gateway) attach(ctx context.Context, token, request string) (*answer, error) {
	input := dynamicpb.NewMessage(g.method.Input())
	if err := protojson.Unmarshal([]byte(request), input); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	var header, trailer metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, "x-auth-token", token)
	output := dynamicpb.NewMessage(g.method.Output())
	refusal := g.conn.Invoke(ctx, method, input, output, grpc.Header(&header), grpc.Trailer(&trailer))
	return g.read(refusal, metadata.Join(header, trailer))
}

// read decodes an error down to the fields of its details.
func (g *gateway) read(refusal error, metadata metadata.MD) (*answer, error) {
	state := status.Convert(refusal)
	details := map[string]proto.Message{}
	for _, detail := range state.Details() {
		message, ok := detail.(proto.Message)
		if !ok {
			return nil, fmt.Errorf("a detail can't be decoded: %v", detail)
		}
		name := string(message.ProtoReflect().Descriptor().Name())
		if details[name] != nil {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		details[name], g.seen[name] = message, true
	}
	return &answer{state.Code(), state.Message(), metadata, details}, nil
}

// describe asks for the file of a symbol and for every file that it builds upon.
func describe(ctx context.Context, conn *grpc.ClientConn, symbol string) (*protoregistry.Files, error) {
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	known := map[string]bool{}
	ask := func(request *reflectionpb.ServerReflectionRequest) error {
		if err := stream.Send(request); err != nil {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if fault := response.GetErrorResponse(); fault != nil {
			return fmt.Errorf("%v: %s", request, fault.ErrorMessage)
		}
		for _, encoded := range response.GetFileDescriptorResponse().GetFileDescriptorProto() {
			file := &descriptorpb.FileDescriptorProto{}
			if err := proto.Unmarshal(encoded, file); err != nil {
				return err
			}
			if !known[file.GetName()] {
				known[file.GetName()] = true
				set.File = append(set.File, file)
			}
		}
		return nil
	}
	if err := ask(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
	}); err != nil {
		return nil, err
	}
	// The list grows while it is gone through.
	for at := 0; at < len(set.File); at++ {
		for _, name := range set.File[at].GetDependency() {
			if known[name] {
				continue
			}
			if err := ask(&reflectionpb.ServerReflectionRequest{
				MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: name},
			}); err != nil {
				return nil, err
			}
		}
	}
	return protodesc.NewFiles(set)
}

func names[V any](of map[string]V) []string {
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
