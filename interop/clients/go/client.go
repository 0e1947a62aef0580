package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

type connection = *grpc.ClientConn

// client keeps a connection for each target and its options.
type client struct {
	connections map[string]connection
}

func (c *client) connection(request *Request) (connection, error) {
	key, err := json.Marshal([]any{request.Target, request.TLS, request.ServiceConfig})
	if err != nil {
		return nil, err
	}
	if conn := c.connections[string(key)]; conn != nil {
		return conn, nil
	}
	transport := insecure.NewCredentials()
	if request.TLS != nil {
		if transport, err = request.TLS.credentials(); err != nil {
			return nil, err
		}
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if request.ServiceConfig != "" {
		config, err := os.ReadFile(request.ServiceConfig)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithDefaultServiceConfig(string(config)))
	}
	conn, err := grpc.NewClient(request.Target, options...)
	if err == nil {
		c.connections[string(key)] = conn
	}
	return conn, err
}

func (t *TLS) credentials() (credentials.TransportCredentials, error) {
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", t.CA)
	}
	if t.Certificate != "" {
		certificate, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return credentials.NewTLS(config), nil
}

// context has the deadline, the cancellation and the metadata of a call.
func (r *Request) context(ctx context.Context) (context.Context, context.CancelFunc) {
	for _, pair := range r.Metadata {
		value := pair[1]
		if strings.HasSuffix(pair[0], "-bin") {
			decoded, _ := base64.StdEncoding.DecodeString(value)
			value = string(decoded)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, pair[0], value)
	}
	cancels := []context.CancelFunc{}
	if r.TimeoutMS != nil {
		bounded, cancel := context.WithTimeout(ctx, time.Duration(*r.TimeoutMS)*time.Millisecond)
		ctx, cancels = bounded, append(cancels, cancel)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancels = append(cancels, cancel)
	if r.CancelAfterMS != nil {
		timer := time.AfterFunc(time.Duration(*r.CancelAfterMS)*time.Millisecond, cancel)
		cancels = append(cancels, func() { timer.Stop() })
	}
	return ctx, func() {
		for _, cancel := range cancels {
			cancel()
		}
	}
}

func pairs(md metadata.MD) [][2]string {
	all := [][2]string{}
	for key, values := range md {
		for _, value := range values {
			if strings.HasSuffix(key, "-bin") {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			all = append(all, [2]string{key, value})
		}
	}
	return all
}
