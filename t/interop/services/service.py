"""A service with OpenTelemetry's Python SDK. See EdgespanTest::InteropService for
what it answers; OTEL_* variables are all its configuration."""

import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace._sampling_experimental import (
    composable_parent_threshold,
    composable_traceid_ratio_based,
    composite_sampler,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import SpanKind


class Consistent(Sampler):
    """The SDK's consistent probability sampling, which the SDK itself does not tell the
    caller's tracestate."""

    def __init__(self, delegate):
        self._sampler = composite_sampler(delegate)

    def should_sample(self, parent_context, *args, **kwargs):
        caller = trace.get_current_span(parent_context).get_span_context()
        return self._sampler.should_sample(
            parent_context, *args, trace_state=caller.trace_state, **kwargs
        )

    def get_description(self):
        return self._sampler.get_description()


def sampler():
    """That has no name of OpenTelemetry's yet. None: what the variable says."""
    name = os.environ.get("OTEL_TRACES_SAMPLER", "")
    if not name.endswith("consistent_traceidratio"):
        return None
    ratio = composable_traceid_ratio_based(float(os.environ["OTEL_TRACES_SAMPLER_ARG"]))
    return Consistent(
        composable_parent_threshold(ratio) if name.startswith("parentbased_") else ratio
    )


provider = TracerProvider(sampler=sampler())
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("service")


def hop():
    span = trace.get_current_span().get_span_context()
    return {
        "service": os.environ["OTEL_SERVICE_NAME"],
        "trace_id": trace.format_trace_id(span.trace_id),
        "sampled": span.trace_flags.sampled,
        "tracestate": span.trace_state.to_header(),
        "baggage": dict(baggage.get_all()),
    }


def call(url):
    with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT):
        headers = {}
        propagate.inject(headers)
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return json.load(error)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        token = context.attach(propagate.extract(self.headers))
        try:
            with tracer.start_as_current_span("GET", kind=SpanKind.SERVER):
                self.serve()
        finally:
            context.detach(token)

    def serve(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        if "baggage" in query:
            context.attach(W3CBaggagePropagator().extract(query))
        hops = [hop()]
        if "next" in query:
            hops += call(query["next"])
        body = json.dumps(hops).encode()
        self.send_response(int(query.get("status", 200)))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def main():
    host, port = sys.argv[1].split(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = False  # those that answer end before the exporter does
    # Not in this thread: it is the one that serves.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    provider.shutdown()


main()
