package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A gRPC client keeps time itself and sends nothing malformed, so these calls are made of bare HTTP/2.

func deadline(ctx context.Context, g *gateway) error {
	// Nobody ever writes to the pipe, so the message does not come.
	body, message := io.Pipe()
	defer message.Close()
	return g.refuses(ctx, "100m", body, codes.DeadlineExceeded, "DEADLINE_EXCEEDED")
}

func malformedDeadline(ctx context.Context, g *gateway) error {
	return g.refuses(ctx, "soon", http.NoBody, codes.InvalidArgument, "INVALID_REQUEST")
}

func noMessage(ctx context.Context, g *gateway) error {
	body := bytes.NewReader([]byte("\x00\x00\x00\x00\x03\xff\xff\xff"))
	return g.refuses(ctx, "10S", body, codes.InvalidArgument, "INVALID_REQUEST")
}

// refuses makes a call that the gateway must refuse without sending anything.
func (g *gateway) refuses(ctx context.Context, timeout string, body io.Reader, code codes.Code, reason string) error {
	headers, err := g.raw(ctx, timeout, body)
	if err != nil {
		return err
	}
	encoded, err := base64.RawStdEncoding.DecodeString(headers.Get("grpc-status-details-bin"))
	if err != nil {
		return fmt.Errorf("grpc-status-details-bin: %w", err)
	}
	inner := &statuspb.Status{}
	if err := proto.Unmarshal(encoded, inner); err != nil {
		return fmt.Errorf("grpc-status-details-bin: %w", err)
	}
	answer, err := g.read(status.ErrorProto(inner), nil)
	if err != nil {
		return err
	}
	info, ok := answer.details["ErrorInfo"].(*errdetails.ErrorInfo)
	if !ok {
		return fmt.Errorf("no ErrorInfo among %v", names(answer.details))
	}
	return errors.Join(
		equal("grpc-status", headers.Get("grpc-status"), fmt.Sprint(uint32(code))),
		equal("code in the details", answer.code, code),
		equal("reason", info.Reason, reason),
		equal("domain", info.Domain, "apig-grpc-gateway"),
		equal("outcome", info.Metadata["outcome"], "not_sent"),
		equal("ids of the call", len(headers.Values("x-request-id")), 1),
	)
}

// raw makes a call and returns the headers of its answer, which must be all that there is of it.
func (g *gateway) raw(ctx context.Context, timeout string, body io.Reader) (http.Header, error) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()

	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.address+method, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("content-type", "application/grpc")
	request.Header.Set("te", "trailers")
	request.Header.Set("grpc-timeout", timeout)
	request.Header.Set("x-auth-token", token)
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("grpc-status") == "" {
		return nil, fmt.Errorf("not a refusal: HTTP %s, %v", response.Status, response.Header)
	}
	return response.Header, nil
}
