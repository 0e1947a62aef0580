// Attach attaches a certificate to the domain names that it reads from standard input, one a line.
//
//	go run . [TARGET]
//
// TARGET is host:port or unix:/path; without it, the variable GATEWAY is. README.md lists the other variables.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	apic "example.com/attach/huaweicloud/apic/v2"
)

//go:embed service-config.json
var serviceConfig string

// connect returns one connection for all calls: it is made by the first call, and again after a restart of the gateway.
func connect(target string) (*grpc.ClientConn, error) {
	transport, err := transportCredentials()
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(target,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// While the gateway restarts, calls wait for it until their deadline.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

func attach(client apic.CertificateServiceClient, domain string, deadline time.Duration) error {
	requestID := rand.Text()
	// In a service, OpenTelemetry's stats handler for gRPC sends the trace of the request that is being served.
	var trace [24]byte
	rand.Read(trace[:])
	traceparent := fmt.Sprintf("00-%x-%x-01", trace[:16], trace[16:])
	fmt.Printf("%s: x-request-id %s, traceparent %s\n", domain, requestID, traceparent)

	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx,
		"x-auth-token", env("TOKEN", "demo-operator-token"), "x-request-id", requestID, "traceparent", traceparent)
	_, err := client.AttachDomains(ctx, &apic.AttachDomainsRequest{
		// The ids are those of `apig-grpc-gateway demo`.
		ProjectId:     env("PROJECT_ID", "73d69ae0cfcf460190522d06b60f05ad"),
		CertificateId: env("CERTIFICATE_ID", "a27be832f2e9441c8127fe48e3b5ac67"),
		Domains: []*apic.AttachOrDetachDomainInfo{{
			Domain:      domain,
			InstanceIds: []string{env("INSTANCE_ID", "f0fa1789-3b76-433b-a787-9892951c620e")},
		}},
	})
	return err
}

func main() {
	log.SetFlags(0)
	target := env("GATEWAY", "127.0.0.1:50051")
	if len(os.Args) > 1 {
		target = os.Args[1]
	}
	// Longer than the gateway's own timeout: the error then comes from the gateway, and tells the outcome.
	deadline, err := time.ParseDuration(env("DEADLINE", "40") + "s")
	if err != nil {
		log.Fatal(err)
	}
	connection, err := connect(target)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := apic.NewCertificateServiceClient(connection)
	failed := false
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := attach(client, lines.Text(), deadline); err != nil {
			fmt.Printf("%s: %s: %s\n", lines.Text(), codeName(err), status.Convert(err).Message())
			printDetails(err)
			failed = true
			continue
		}
		fmt.Printf("%s: attached\n", lines.Text())
	}
	if failed {
		os.Exit(1)
	}
}
