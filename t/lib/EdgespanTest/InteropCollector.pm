package EdgespanTest::InteropCollector;

# The OpenTelemetry Collector: with all receivers that Edgespan speaks to, or with a
# configuration from examples/collector and what a test has to change in it. What
# it took is read from its file exporter.

use strict;
use warnings;

use parent 'EdgespanTest::InteropBackend';

use JSON::PP ();

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::Otlp;
use EdgespanTest::Tree;

my %PORT = (grpc => 1, http => 2, zipkin => 3, jaeger => 4,
    tls_grpc => 5, tls_http => 6, mtls_grpc => 7, mtls_http => 8);

sub kind        { return 'the Collector' }
sub program     { return 'otelcol' }
sub ports_named { return $_[0]{example} ? $_[0]{named} : \%PORT }

# Options: example (the name of a file), override (configuration that is laid over
# it), named {what => number of its port}.
sub new {
    my ($class, %opt) = @_;
    my $self = $class->SUPER::new(%opt);
    $self->{tls} = _certificates() unless $opt{example};
    return $self;
}

# An authority, a server and a client that it vouches for; an authority that nobody
# knows, and the client that it vouches for.
sub _certificates {
    my $certificates = EdgespanTest::Certificates->new;
    $certificates->authority($_) for qw(ca stranger);
    $certificates->certificate($_, 'ca') for qw(server client);
    $certificates->certificate('intruder', 'stranger');
    return $certificates;
}

sub examples { return sort glob repo_root() . '/examples/collector/*.yaml' }

sub tls         { return $_[0]{tls} }
sub grpc_socket { return $_[0]->prefix . '/run/grpc.sock' }

sub command {
    my ($self) = @_;
    return ($self->{program}, map {"--config=$_"}
        $self->{example} ? repo_root() . "/examples/collector/$self->{example}" : (),
        "$self->{prefix}/config.yaml", 'yaml:service::telemetry::metrics::level: none');
}

sub config {
    my ($self) = @_;
    return $self->{override} if $self->{example};
    my $dir = $self->{tls}->dir;
    my $tls = "cert_file: $dir/server.pem, key_file: $dir/server.key";
    my $mtls = "$tls, client_ca_file: $dir/ca.pem";
    return <<"END";
receivers:
  otlp:
    protocols:
      grpc: {endpoint: 127.0.0.1:%%PORT1%%}
      http: {endpoint: 127.0.0.1:%%PORT2%%}
  otlp/tls:
    protocols:
      grpc: {endpoint: 127.0.0.1:%%PORT5%%, tls: {$tls}}
      http: {endpoint: 127.0.0.1:%%PORT6%%, tls: {$tls}}
  otlp/mtls:
    protocols:
      grpc: {endpoint: 127.0.0.1:%%PORT7%%, tls: {$mtls}}
      http: {endpoint: 127.0.0.1:%%PORT8%%, tls: {$mtls}}
  otlp/unix:
    protocols:
      grpc: {endpoint: @{[$self->grpc_socket]}, transport: unix}
  zipkin: {endpoint: 127.0.0.1:%%PORT3%%}
  jaeger: {protocols: {thrift_http: {endpoint: 127.0.0.1:%%PORT4%%}}}
exporters:
  file: {path: %%PREFIX%%/traces.json, flush_interval: 50ms}
service:
  pipelines:
    traces:
      receivers: [otlp, otlp/tls, otlp/mtls, otlp/unix, zipkin, jaeger]
      exporters: [file]
END
}

sub ready {
    my ($self) = @_;
    return 0 unless $self->SUPER::ready;
    return 1 if $self->{example};
    return 0 unless -S $self->grpc_socket;
    # The servers of the tests may run as another user.
    return chmod 0666, $self->grpc_socket;
}

# Success and output of "otelcol validate".
sub validate {
    my ($class, $file) = @_;
    my $self = bless { env => {} }, $class;
    return $self->_run(EdgespanTest::InteropBackend::interop_program('otelcol'),
        'validate', "--config=$file");
}

sub spans {
    my ($self, $trace_id) = @_;
    $self->_read;
    return map { {
        parent => $_->{parent_span_id},
        error => $_->{status}{code} eq 'ERROR' ? 1 : 0,
        service => $_->{resource}{'service.name'},
        from => $_->{start} / 1e9, to => $_->{end} / 1e9,
        sampled => $_->{flags} & 1,
        %{$_}{qw(trace_id span_id name kind attrs links trace_state)},
    } } @{ $self->{traces}{$trace_id} // [] };
}

# As text.
sub tree {
    my ($self, $trace_id) = @_;
    $self->_read;
    return EdgespanTest::Tree::tree($self->{traces}{$trace_id} // []);
}

# What has come to the file since the last time, by its trace.
sub _read {
    my ($self) = @_;
    open my $fh, '<:raw', "$self->{prefix}/traces.json" or return;
    seek $fh, $self->{read} // 0, 0;
    while (my $line = <$fh>) {
        # The Collector is still writing this one.
        last unless $line =~ /\n\z/;
        $self->{read} = tell $fh;
        push @{ $self->{traces}{ $_->{trace_id} } }, $_
            for EdgespanTest::Otlp::decode_json_body($line);
    }
    return;
}

# Returns when all that the Collector has acknowledged can be read: its file is in
# the order of what it took.
sub settle {
    my ($self) = @_;
    my $id = sprintf '%032x', ++$self->{settled};
    my $now = int(time) . '000000000';
    my $span = { traceId => $id, spanId => substr($id, 16), name => 'settle', kind => 1,
        startTimeUnixNano => $now, endTimeUnixNano => $now };
    my $answer = http_get($self->port_of('http'), '/v1/traces', method => 'POST',
        headers => [ [ 'Content-Type' => 'application/json' ] ],
        body => JSON::PP::encode_json(
            { resourceSpans => [ { scopeSpans => [ { spans => [$span] } ] } ] }));
    die "the Collector took no span: $answer->{raw}\n" unless $answer->{status} == 200;
    wait_for(sub { $self->spans($id) }, 10, 'the Collector\'s file');
    return;
}

1;
