package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/dynamicpb"
)

// readError makes a call and prints what a program can read of its error: code, reason, outcome, milliseconds to wait.
func readError(ctx context.Context, address, certificate, serviceConfig string) error {
	config, err := os.ReadFile(serviceConfig)
	if err != nil {
		return err
	}
	g, err := connect(ctx, address, grpc.WithDefaultServiceConfig(string(config)))
	if err != nil {
		return err
	}
	defer g.conn.Close()
	input := dynamicpb.NewMessage(g.method.Input())
	if err := protojson.Unmarshal([]byte(request(certificate, domain)), input); err != nil {
		return err
	}
	// Not the context that bounds the program: the config has a timeout of its own.
	call := metadata.AppendToOutgoingContext(context.Background(), "x-auth-token", token)
	err = g.conn.Invoke(call, method, input, dynamicpb.NewMessage(g.method.Output()))

	reason, outcome, delay := "", "", time.Duration(0)
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason, outcome = detail.GetReason(), detail.GetMetadata()["outcome"]
		case *errdetails.RetryInfo:
			delay = detail.GetRetryDelay().AsDuration()
		}
	}

	fmt.Println(int(status.Code(err)), orDash(reason), orDash(outcome), delay.Milliseconds())
	return nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
