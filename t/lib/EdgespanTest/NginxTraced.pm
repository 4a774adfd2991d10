package EdgespanTest::NginxTraced;

# An nginx that traces everything to a collector of its own, and a JSON access
# log that says what nginx itself knows about each request.

use strict;
use warnings;

use parent 'EdgespanTest::Nginx';

use Encode ();
use JSON::PP ();
use Test::More ();

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Otlp;

my %FIELD = (trace => 'otel_trace_id', span => 'otel_span_id',
    parent => 'otel_parent_id', status => 'status', time => 'request_time',
    end => 'msec', request => 'request', upstream => 'upstream_addr',
    cache => 'upstream_cache_status', bytes => 'body_bytes_sent',
    uri => 'uri', ip => 'remote_addr', done => 'request_completion');

# Options besides the parent's: collector (a new one), exporter (more options of
# its block), trace ('on': otel_trace in http{}; undef: no such line).
sub new {
    my ($class, %opt) = @_;
    my $c = delete $opt{collector} // EdgespanTest::Collector->new;
    my $trace = exists $opt{trace} ? delete $opt{trace} : 'on';
    my $exporter = delete $opt{exporter} // '';
    my $interval = $exporter =~ /\binterval\b/ ? '' : 'interval 20ms;';
    my $format = join ',', map {qq{"$_":"\$$FIELD{$_}"}} sort keys %FIELD;
    $opt{head} = join "\n", '',
        "    otel_exporter { endpoint %%COLLECTOR%%; $interval $exporter }",
        defined $trace ? "    otel_trace $trace;" : (),
        "    log_format edge escape=json '{$format}';",
        '    access_log %%PREFIX%%/edge.log edge;', '';
    my $self = $class->SUPER::new(%opt,
        vars => { COLLECTOR => $c->url, %{ $opt{vars} || {} } });
    $self->{collector} = $c;
    return $self;
}

sub config {
    my ($self) = @_;
    local $self->{http} = $self->{head} . $self->{http};
    return $self->SUPER::config;
}

sub collector { return $_[0]{collector} }

# What nginx logged, oldest first.
sub records {
    my ($self) = @_;
    my $text = slurp("$self->{prefix}/edge.log") // '';
    # A client's bytes may be no UTF-8.
    my $json = JSON::PP->new;
    return map { $json->decode(Encode::decode('UTF-8', $_)) }
        $text =~ /(.*)\n/g;
}

# The SERVER span ids that nginx logged; quick, for very many of them.
sub logged_ids {
    my ($self) = @_;
    my $text = slurp("$self->{prefix}/edge.log") // '';
    return $text =~ /"span":"([0-9a-f]{16})"/g;
}

# Runs $code and returns its value and the records that nginx wrote for it.
sub recorded {
    my ($self, $code, $n, $timeout) = @_;
    my $before = $self->records;
    my $value = $code->();
    my @new;
    wait_for(sub {
        @new = $self->records;
        splice @new, 0, $before;
        @new >= ($n // 1);
    }, $timeout // 5, 'a line of the access log');
    return ($value, @new);
}

# All spans of the trace of a record. The SERVER span is pushed last, so that all the
# others are there with it; of a trace id alone $n spans are waited for.
sub trace {
    my ($self, $record, $n, $timeout) = @_;
    $self->server_span($record, $timeout) if ref $record;
    return $self->{collector}->wait_spans($n // 1, $timeout // 5,
        trace_id => ref $record ? $record->{trace} : $record);
}

sub server_span {
    my ($self, $record, $timeout) = @_;
    my ($span) = $self->{collector}->wait_spans(1, $timeout // 5,
        trace_id => $record->{trace}, span_id => $record->{span});
    return $span;
}

# A sanitizer needs memory of its own: limits of it mean nothing then.
sub sanitized { return slurp(EdgespanTest::module_nginx()) =~ /__[at]san_init/ }

# One test: every span that arrived so far keeps the rules.
sub lint {
    my ($self) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @spans = $self->{collector}->spans;
    my @bad = EdgespanTest::Otlp::lint(\@spans);
    return Test::More::is(join("\n", @bad), '',
        scalar(@spans) . ' spans keep the rules');
}

1;
