// Go's gRPC as a client of the interop protocol: requests are lines of JSON on standard input, answers on standard output.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// Request is a line of standard input.
type Request struct {
	Action        string          `json:"action"`
	Target        string          `json:"target"`
	TLS           *TLS            `json:"tls"`
	ServiceConfig string          `json:"service_config"`
	Method        string          `json:"method"`
	Request       json.RawMessage `json:"request"`
	RequestBytes  *string         `json:"request_bytes"`
	Metadata      [][2]string     `json:"metadata"`
	TimeoutMS     *int            `json:"timeout_ms"`
	CancelAfterMS *int            `json:"cancel_after_ms"`
	Compression   string          `json:"compression"`
	Service       string          `json:"service"`
	Count         int             `json:"count"`
	Version       string          `json:"version"`
}

// TLS has the paths of PEM files; without a certificate the client shows none.
type TLS struct {
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// Answer is a line of standard output.
type Answer struct {
	Code     string            `json:"code,omitempty"`
	Message  string            `json:"message"`
	Details  []json.RawMessage `json:"details"`
	Response json.RawMessage   `json:"response"`
	Headers  [][2]string       `json:"headers"`
	Trailers [][2]string       `json:"trailers"`
	Statuses []string          `json:"statuses,omitempty"`
	Services []string          `json:"services,omitempty"`
}

func main() {
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	client := &client{connections: map[string]connection{}}
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		var answer any
		if answer, err = client.answer(line); err != nil {
			answer = map[string]string{"failed": err.Error()}
		}
		if err := output.Encode(answer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func (c *client) answer(line []byte) (any, error) {
	request := &Request{}
	if err := json.Unmarshal(line, request); err != nil {
		return nil, err
	}
	if request.Compression != "" && request.Compression != "gzip" {
		return map[string]string{"cannot": "grpc-go has no compression but gzip"}, nil
	}
	conn, err := c.connection(request)
	if err != nil {
		return nil, err
	}
	ctx, cancel := request.context(context.Background())
	defer cancel()
	switch request.Action {
	case "call":
		return call(ctx, conn, request)
	case "health":
		return health(ctx, conn, request)
	case "watch":
		return watch(ctx, conn, request)
	case "reflect":
		return reflect(ctx, conn, request)
	}
	return nil, fmt.Errorf("unknown action %q", request.Action)
}
