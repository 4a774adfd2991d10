module edgespan.invalid/interop/jaeger

go 1.24.6

// Jaeger 2.13.0: its module has no /v2 path and goes by the number of version 1.
require github.com/jaegertracing/jaeger v1.76.0
