package EdgespanTest::InteropJaeger;

# Jaeger with its storage in memory; traces are read back by the API that its
# pages use.

use strict;
use warnings;

use parent 'EdgespanTest::InteropBackend';

my %PORT = (query => 1, grpc => 2, http => 3, thrift => 4, zipkin => 5, query_grpc => 6);

sub kind        { return 'Jaeger' }
sub program     { return 'jaeger' }
sub ports_named { return \%PORT }

sub command {
    my ($self) = @_;
    return ($self->{program}, "--config=$self->{prefix}/config.yaml");
}

sub config {
    return <<'END';
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 127.0.0.1:%%PORT2%%}
      http: {endpoint: 127.0.0.1:%%PORT3%%}
  jaeger: {protocols: {thrift_http: {endpoint: 127.0.0.1:%%PORT4%%}}}
  zipkin: {endpoint: 127.0.0.1:%%PORT5%%}
exporters:
  jaeger_storage_exporter: {trace_storage: memory}
extensions:
  jaeger_storage: {backends: {memory: {memory: {max_traces: 10000}}}}
  jaeger_query:
    storage: {traces: memory}
    http: {endpoint: 127.0.0.1:%%PORT1%%}
    grpc: {endpoint: 127.0.0.1:%%PORT6%%}
service:
  extensions: [jaeger_storage, jaeger_query]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces:
      receivers: [otlp, jaeger, zipkin]
      exporters: [jaeger_storage_exporter]
END
}

sub spans {
    my ($self, $trace_id) = @_;
    my $found = $self->get_json($self->port_of('query'), "/api/traces/$trace_id") or return;
    my $trace = $found->{data}[0] or return;
    return map { _span($_, $trace->{processes}) } @{ $trace->{spans} };
}

sub _span {
    my ($s, $processes) = @_;
    my %tag = map { $_->{key} => $_->{value} } @{ $s->{tags} };
    my ($parent) = grep { $_->{refType} eq 'CHILD_OF' } @{ $s->{references} };
    return {
        trace_id => $s->{traceID}, span_id => $s->{spanID},
        parent => $parent ? $parent->{spanID} : '',
        name => $s->{operationName}, kind => uc($tag{'span.kind'} // ''),
        error => $tag{error} ? 1 : 0,
        service => $processes->{ $s->{processID} }{serviceName},
        from => $s->{startTime} / 1e6, to => ($s->{startTime} + $s->{duration}) / 1e6,
        attrs => \%tag,
    };
}

1;
