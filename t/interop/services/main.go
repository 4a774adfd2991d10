// A service with OpenTelemetry's Go SDK. See EdgespanTest::InteropService for what
// it answers; OTEL_* variables are all its configuration.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

type hop struct {
	Service    string            `json:"service"`
	TraceID    string            `json:"trace_id"`
	Sampled    bool              `json:"sampled"`
	Tracestate string            `json:"tracestate"`
	Baggage    map[string]string `json:"baggage"`
}

func hopOf(ctx context.Context) hop {
	span := trace.SpanContextFromContext(ctx)
	members := map[string]string{}
	for _, member := range baggage.FromContext(ctx).Members() {
		members[member.Key()] = member.Value()
	}
	return hop{os.Getenv("OTEL_SERVICE_NAME"), span.TraceID().String(), span.IsSampled(),
		span.TraceState().String(), members}
}

var client = http.Client{Transport: otelhttp.NewTransport(http.DefaultTransport)}

func call(ctx context.Context, url string) (hops []json.RawMessage, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return hops, json.Unmarshal(body, &hops)
}

func serve(w http.ResponseWriter, r *http.Request) {
	ctx, query := r.Context(), r.URL.Query()
	if text := query.Get("baggage"); text != "" {
		bag, err := baggage.Parse(text)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx = baggage.ContextWithBaggage(ctx, bag)
	}
	own, _ := json.Marshal(hopOf(ctx))
	hops := []json.RawMessage{own}
	if next := query.Get("next"); next != "" {
		more, err := call(ctx, next)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		hops = append(hops, more...)
	}
	w.Header().Set("Content-Type", "application/json")
	if status, err := strconv.Atoi(query.Get("status")); err == nil {
		w.WriteHeader(status)
	}
	_ = json.NewEncoder(w).Encode(hops)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(autoprop.NewTextMapPropagator())

	server := &http.Server{Addr: os.Args[1],
		Handler: otelhttp.NewHandler(http.HandlerFunc(serve), "GET")}
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-done
	if err := provider.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}
