package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// The world that `demo` starts with.
const (
	project     = "73d69ae0cfcf460190522d06b60f05ad"
	certificate = "a27be832f2e9441c8127fe48e3b5ac67"
	withCA      = "1b6f0d83c9a24e57b8d1f4a6e02c7359"
	faulty      = "0a5d7e3c1f9b48e2860c4b7a9d2f6e15"
	throttled   = "6c81f2b04e7d4a39957a3d0e5b8c1f46"
	instance    = "7d39549681c54d968ec2910da9da95cd"
	domain      = "apigtest.xxx.com"
	token       = "demo-operator-token"
)

type check struct {
	name string
	run  func(context.Context, *gateway) error
}

// failure is a call that must fail, and how.
type failure struct {
	name    string
	token   string
	request string
	code    codes.Code
	reason  string
	// gateway: refused without the cloud having been asked.
	gateway bool
	// status is the cloud's HTTP status.
	status int
	// unknown: nobody can tell whether the change was made.
	unknown bool
	// details beside those that every error of its origin has; each `description` is there, whatever it says.
	details []proto.Message
}

func request(certificate, domain string) string {
	return fmt.Sprintf(
		`{"project_id":%q,"certificate_id":%q,"domains":[{"domain":%q,"instance_ids":[%q]}]}`,
		project, certificate, domain, instance,
	)
}

var failures = []failure{
	{
		name:    "BadRequest names every field that the gateway refuses",
		request: `{"project_id":"..","domains":[{"domain":"a b","instance_ids":["c/d"]}]}`,
		code:    codes.InvalidArgument, reason: "INVALID_REQUEST", gateway: true,
		details: []proto.Message{&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "project_id"}, {Field: "certificate_id"}, {Field: "domains[0].domain"},
			{Field: "domains[0].instance_ids[0]"},
		}}},
	},
	{
		name:    "BadRequest names the parameter that the cloud refuses",
		request: request(certificate, "no-dots-in-it"),
		code:    codes.InvalidArgument, reason: "APIG_2012", status: 400,
		details: []proto.Message{&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "domain_id"},
		}}},
	},
	{
		name:    "ErrorInfo, RequestInfo and Help come with every refusal of the cloud",
		token:   "stale-token",
		request: request(certificate, domain),
		code:    codes.Unauthenticated, reason: "APIG_1002", status: 401,
	},
	{
		name:    "ResourceInfo says what does not exist",
		request: request(certificate, "nobody.example.com"),
		code:    codes.NotFound, reason: "APIG_3020", status: 404,
		details: []proto.Message{&errdetails.ResourceInfo{
			ResourceType: "domain", ResourceName: "nobody.example.com", Owner: "projects/" + project,
		}},
	},
	{
		name:    "PreconditionFailure says what is in the way",
		request: request(withCA, domain),
		code:    codes.FailedPrecondition, reason: "APIG_2051", status: 400,
		details: []proto.Message{&errdetails.PreconditionFailure{
			Violations: []*errdetails.PreconditionFailure_Violation{
				{Type: "DOMAIN_HAS_OTHER_CERTIFICATE", Subject: "certificates/" + withCA},
			},
		}},
	},
	{
		name:    "RetryInfo and QuotaFailure say how long to wait and why",
		request: request(throttled, domain),
		code:    codes.ResourceExhausted, reason: "APIG_0308", status: 429,
		details: []proto.Message{
			&errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Second)},
			&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "requests:user"}}},
		},
	},
	{
		name:    "ErrorInfo says that the outcome of a fault is unknown",
		request: request(faulty, domain),
		code:    codes.Internal, reason: "APIG_9999", status: 500, unknown: true,
	},
}

func checks() []check {
	all := []check{{"the documented example is answered", attaches}}
	for _, failure := range failures {
		all = append(all, check{failure.name, failure.check})
	}
	return append(all,
		check{"every type of detail has been decoded", allSeen},
		check{"a deadline that passes before the message comes is answered by the gateway", deadline},
		check{"a deadline that can't be read is refused", malformedDeadline},
		check{"bytes that are no message are refused", noMessage},
	)
}

func attaches(ctx context.Context, g *gateway) error {
	answer, err := g.attach(ctx, token, request(certificate, domain))
	if err != nil {
		return err
	}
	return errors.Join(
		equal("code", answer.code, codes.OK),
		equal("ids of the call", len(answer.metadata["x-request-id"]), 1),
		equal("ids of the cloud", len(answer.metadata["apig-request-id"]), 1),
	)
}

func (f failure) check(ctx context.Context, g *gateway) error {
	used := token
	if f.token != "" {
		used = f.token
	}
	answer, err := g.attach(ctx, used, f.request)
	if err != nil {
		return err
	}
	info, ok := answer.details["ErrorInfo"].(*errdetails.ErrorInfo)
	if !ok {
		return fmt.Errorf("no ErrorInfo among %v", names(answer.details))
	}
	faults := []error{
		equal("code", answer.code, f.code),
		equal("reason", info.Reason, f.reason),
		equal("unknown outcome", info.Metadata["outcome"] == "unknown", f.unknown),
	}
	expected := []string{"ErrorInfo"}
	if f.gateway {
		faults = append(faults, equal("domain", info.Domain, "apig-grpc-gateway"))
	} else {
		expected = append(expected, "RequestInfo", "Help")
		faults = append(faults, f.ofCloud(answer, info))
	}
	for _, detail := range f.details {
		name := string(detail.ProtoReflect().Descriptor().Name())
		expected = append(expected, name)
		actual := answer.details[name]
		if actual == nil {
			continue // The comparison of names below tells.
		}
		if err := takeDescriptions(actual.ProtoReflect()); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
		if !proto.Equal(actual, detail) {
			faults = append(faults, fmt.Errorf("%s is {%v} instead of {%v}", name, actual, detail))
		}
	}
	slices.Sort(expected)
	faults = append(faults, equal("details", fmt.Sprint(names(answer.details)), fmt.Sprint(expected)))
	return errors.Join(faults...)
}

// ofCloud checks what every refusal of the cloud has.
func (f failure) ofCloud(answer *answer, info *errdetails.ErrorInfo) error {
	id := strings.Join(answer.metadata["apig-request-id"], ",")
	request, _ := answer.details["RequestInfo"].(*errdetails.RequestInfo)
	help, _ := answer.details["Help"].(*errdetails.Help)
	faults := []error{
		equal("domain", info.Domain, "apig.huaweicloud.com"),
		equal("error_code", info.Metadata["error_code"], strings.Replace(f.reason, "_", ".", 1)),
		equal("http_status", info.Metadata["http_status"], strconv.Itoa(f.status)),
		equal("request_id of ErrorInfo", info.Metadata["request_id"], id),
		equal("request_id of RequestInfo", request.GetRequestId(), id),
		equal("links of Help", len(help.GetLinks()), 1),
	}
	if id == "" || answer.message == "" {
		faults = append(faults, errors.New("the id or the message is missing"))
	}
	for _, link := range help.GetLinks() {
		if link.Description == "" || !strings.HasPrefix(link.Url, "https://") {
			faults = append(faults, fmt.Errorf("link of Help: %v", link))
		}
	}
	return errors.Join(faults...)
}

func allSeen(_ context.Context, g *gateway) error {
	return equal("types", fmt.Sprint(names(g.seen)),
		"[BadRequest ErrorInfo Help PreconditionFailure QuotaFailure RequestInfo ResourceInfo RetryInfo]")
}

// takeDescriptions takes every `description` out of a message, so that the rest can be compared; none may be empty.
func takeDescriptions(message protoreflect.Message) error {
	var faults []error
	fields := message.Descriptor().Fields()
	for at := range fields.Len() {
		field := fields.Get(at)
		switch {
		case field.Name() == "description":
			if message.Get(field).String() == "" {
				faults = append(faults, errors.New("empty description"))
			}
			message.Clear(field)
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			list := message.Get(field).List()
			for entry := range list.Len() {
				faults = append(faults, takeDescriptions(list.Get(entry).Message()))
			}
		}
	}
	return errors.Join(faults...)
}

func equal[T comparable](what string, actual, expected T) error {
	if actual == expected {
		return nil
	}
	return fmt.Errorf("%s is %v instead of %v", what, actual, expected)
}
