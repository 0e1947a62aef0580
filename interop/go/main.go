// Checks the gateway with Go's gRPC, without generated code of its own: messages come from server reflection.
//
//	go-client GATEWAY_HOST:PORT
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
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go-client GATEWAY_HOST:PORT")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
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
