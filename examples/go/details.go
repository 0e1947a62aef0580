package main

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

func printDetails(err error) {
	details := status.Convert(err).Details()
	if len(details) == 0 {
		fmt.Println("  no details: not the gateway's error; the change may have been made if the client was connected")
	}
	for _, detail := range details {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Printf("  ErrorInfo: %s of %s\n", detail.GetReason(), detail.GetDomain())
			for key, value := range detail.GetMetadata() {
				fmt.Printf("  ErrorInfo: %s = %s\n", key, value)
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fmt.Printf("  BadRequest: %s: %s\n", violation.GetField(), violation.GetDescription())
			}
		case *errdetails.ResourceInfo:
			fmt.Printf("  ResourceInfo: %s %s\n", detail.GetResourceType(), detail.GetResourceName())
		case *errdetails.QuotaFailure:
			for _, violation := range detail.GetViolations() {
				fmt.Printf("  QuotaFailure: %s: %s\n", violation.GetSubject(), violation.GetDescription())
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.GetViolations() {
				fmt.Printf("  PreconditionFailure: %s of %s: %s\n",
					violation.GetType(), violation.GetSubject(), violation.GetDescription())
			}
		case *errdetails.RetryInfo:
			fmt.Printf("  RetryInfo: %d ms\n", detail.GetRetryDelay().AsDuration().Milliseconds())
		case *errdetails.RequestInfo:
			fmt.Printf("  RequestInfo: %s\n", detail.GetRequestId())
		case *errdetails.Help:
			for _, link := range detail.GetLinks() {
				fmt.Printf("  Help: %s\n", link.GetUrl())
			}
		}
	}
}
