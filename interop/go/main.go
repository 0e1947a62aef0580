// Checks the gateway with Go's gRPC, without generated code of its own: messages come from server reflection.
//
//	go-client GATEWAY_HOST:PORT
//
// With a service config it makes a single call and prints what can be read of its error:
//
//	go-client read-error GATEWAY_HOST:PORT CERTIFICATE_ID SERVICE_CONFIG
package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Bounds everything; no check waits for it to pass.
const timeout = 90 * time.Second

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if len(os.Args) == 5 && os.Args[1] == "read-error" {
		if err := readError(ctx, os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		return
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go-client GATEWAY_HOST:PORT")
		os.Exit(2)
	}
	gateway, err := connect(ctx, os.Args[1])
	if err != nil {
		fmt.Printf("FAILED - go: the method is found by reflection\n%v\n", err)
		os.Exit(1)
	}
	fmt.Println("ok - go: the method is found by reflection")

	failed := false
	for _, check := range checks() {
		if err := check.run(ctx, gateway); err != nil {
			failed = true
			fmt.Printf("FAILED - go: %s\n", check.name)
			fmt.Fprintf(os.Stderr, "%s:\n%v\n", check.name, err)
			continue
		}
		fmt.Printf("ok - go: %s\n", check.name)
	}
	if failed {
		os.Exit(1)
	}
}
