package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// transportCredentials are those for mutual TLS if the variables name the files, and plain text otherwise.
func transportCredentials() (credentials.TransportCredentials, error) {
	file := os.Getenv("GATEWAY_CA")
	if file == "" {
		return insecure.NewCredentials(), nil
	}
	ca, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s: no certificate in PEM", file)
	}
	own, err := tls.LoadX509KeyPair(os.Getenv("GATEWAY_CERTIFICATE"), os.Getenv("GATEWAY_KEY"))
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}}), nil
}

// codeName is the name that the documentation uses, such as NOT_FOUND.
func codeName(err error) string {
	return code.Code(status.Code(err)).String()
}
