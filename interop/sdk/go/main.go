// Generated Go code beside genproto in one program: two descriptors of one file would panic before main.
//
//	sdk DESCRIPTOR_SET
package main

import (
	"fmt"
	"os"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	apicv2 "sdk/gen/huaweicloud/apic/v2"
)

func main() {
	set := new(descriptorpb.FileDescriptorSet)
	data, err := os.ReadFile(os.Args[1])
	require(err == nil, err)
	require(proto.Unmarshal(data, set) == nil, "the set can't be decoded")

	vendored := 0
	for _, file := range set.File {
		if strings.HasPrefix(file.GetName(), "google/api/") || strings.HasPrefix(file.GetName(), "google/rpc/") {
			same(file)
			vendored++
		}
	}
	require(vendored == 5, vendored)
	fmt.Println("ok - go: vendored files are the published ones")

	file := apicv2.File_huaweicloud_apic_v2_certificate_service_proto
	for _, compiled := range set.File {
		if compiled.GetName() == file.Path() {
			same(compiled)
		}
	}
	method := file.Services().ByName("CertificateService").Methods().ByName("AttachDomains")
	rule := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	require(rule.GetPost() == "/v2/{project_id}/apic/certificates/{certificate_id}/domains/attach", rule)
	fields := method.Input().Fields()
	behavior := proto.GetExtension(fields.ByName("domains").Options(), annotations.E_FieldBehavior)
	require(fmt.Sprint(behavior) == "[REQUIRED]", behavior)
	reference := proto.GetExtension(fields.ByName("project_id").Options(), annotations.E_ResourceReference)
	require(reference.(*annotations.ResourceReference).GetType() == "apic.huaweicloud.com/Project", reference)
	fmt.Println("ok - go: generated code has the options of the published packages")

	message := &apicv2.AttachDomainsRequest{ProjectId: "p", CertificateId: "c",
		Domains: []*apicv2.AttachOrDetachDomainInfo{{Domain: "www.example.com"}}}
	wire, err := proto.Marshal(message)
	require(err == nil, err)
	back := new(apicv2.AttachDomainsRequest)
	require(proto.Unmarshal(wire, back) == nil && proto.Equal(message, back), back)
	require(apicv2.CertificateService_AttachDomains_FullMethodName ==
		"/huaweicloud.apic.v2.CertificateService/AttachDomains", "the stub has another method")
	fmt.Println("ok - go: a message survives the wire")
}

// Compares a compiled file with the one that the program's packages have registered.
func same(compiled *descriptorpb.FileDescriptorProto) {
	registered, err := protoregistry.GlobalFiles.FindFileByPath(compiled.GetName())
	require(err == nil, err)
	ours, err := protodesc.NewFile(compiled, protoregistry.GlobalFiles)
	require(err == nil, err)
	require(proto.Equal(bare(ours), bare(registered)), compiled.GetName()+" differs")
}

// The file without comments; the names for JSON are derived anew on both sides.
func bare(file protoreflect.FileDescriptor) *descriptorpb.FileDescriptorProto {
	bare := protodesc.ToFileDescriptorProto(file)
	bare.SourceCodeInfo = nil
	return bare
}

func require(holds bool, seen any) {
	if !holds {
		fmt.Println("FAILED - go:", seen)
		os.Exit(1)
	}
}
