# A traced httpd whose access log tells the ids, with its collector; and the spans
# of what was requested of it.
package EdgespanTest::HttpdTraced;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP ();
use Test::More ();

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Otlp ();

our @EXPORT = qw(traced records recorded span_of get raw get_h2 env_of line_of lint %SCRIPTS);

my $FORMAT = join ',', map {qq{\\"$_->[0]\\":\\"$_->[1]\\"}} (
    [ trace => '%{OTEL_TRACE_ID}e' ], [ span => '%{OTEL_SPAN_ID}e' ],
    [ parent => '%{OTEL_PARENT_ID}e' ],
    [ parent_sampled => '%{OTEL_PARENT_SAMPLED}e' ],
    [ sampled => '%{OTEL_SAMPLED}e' ], [ flags => '%{OTEL_TRACE_FLAGS}e' ],
    [ traceparent => '%{OTEL_TRACEPARENT}e' ],
    [ upstream => '%{OTEL_UPSTREAM_SPAN_ID}e' ],
    [ note => '%{OTEL_TRACE_ID}n' ], [ note_sampled => '%{OTEL_SAMPLED}n' ],
    [ decision => '%{OTEL_DECISION}e' ], [ note_decision => '%{OTEL_DECISION}n' ],
    [ us => '%D' ], [ status => '%>s' ]);

# CGI scripts, for the option "files".
our %SCRIPTS = (
    'cgi-bin/env'  => "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nenv\n",
    'cgi-bin/slow' => "#!/bin/sh\nsleep 0.4\necho 'Content-Type: text/plain'\necho\necho slow\n",
    'cgi-bin/long' => "#!/bin/sh\necho 'Content-Type: text/plain'\necho\nhead -c 100000 /dev/zero\nsleep 0.4\necho end\n",
    'cgi-bin/bad'  => "#!/bin/sh\necho 'Status: 503 busy'\necho\n");

# Options besides httpd's: collector (a new one), exporter (more options of it),
# trace (the OtelTrace line of the server; undef: none).
sub traced {
    my (%opt) = @_;
    my $c = delete $opt{collector} // EdgespanTest::Collector->new;
    my $exporter = delete $opt{exporter} // '';
    my $interval = $exporter =~ /\binterval=/ ? '' : 'interval=20ms ';
    my $trace = exists $opt{trace} ? delete $opt{trace} : 'On';
    $opt{http} = join "\n", "OtelExporter %%COLLECTOR%% $interval$exporter",
        'OtelServiceName edge', defined $trace ? "OtelTrace $trace" : (),
        qq{LogFormat "{$FORMAT}" edge}, 'CustomLog %%PREFIX%%/edge.log edge',
        $opt{http} // '', '';
    my $s = EdgespanTest::Httpd->new(%opt,
        vars => { COLLECTOR => $c->url, %{ $opt{vars} || {} } });
    $s->{collector} = $c;
    return $s;
}

sub records {
    my ($s) = @_;
    return map { JSON::PP::decode_json($_) }
        (slurp($s->prefix . '/edge.log') // '') =~ /(.*)\n/g;
}

# Runs $code; the line that httpd then writes to its access log.
sub recorded {
    my ($s, $code) = @_;
    my $before = my @old = records($s);
    my $value = $code->();
    my @new;
    wait_for(sub { (@new = records($s)) > $before }, 5, 'an access log line');
    return wantarray ? ($new[$before], $value) : $new[$before];
}

# The SERVER span of a record.
sub span_of {
    my ($s, $record) = @_;
    my ($span) = $s->{collector}->wait_spans(1, 5,
        trace_id => $record->{trace}, span_id => $record->{span});
    return $span;
}

# The span of one request, by http_get's arguments.
sub get {
    my ($s, @get) = @_;
    my ($record, $res) = recorded($s, sub { http_get($s->port, @get) });
    my $span = span_of($s, $record);
    $span->{record} = $record;
    $span->{response} = $res;
    return $span;
}

sub raw {
    my ($s, $bytes, %opt) = @_;
    my ($record, $text) = recorded($s, sub { scalar http_raw($s->port, $bytes, %opt) });
    my $span = span_of($s, $record);
    $span->{record} = $record;
    $span->{response} = parse_response($text);
    return $span;
}

# What the script "env" has in its environment.
sub env_of {
    my ($res) = @_;
    return +{ $res->{body} =~ /^(\w+)=(.*)$/mg };
}

# A line of the configuration, as OTEL_DECISION names it.
sub line_of {
    my ($s, $text) = @_;
    my @lines = split /\n/, slurp($s->prefix . '/httpd.conf');
    my ($n) = grep { $lines[$_] =~ /^\s*\Q$text\E$/ } 0 .. $#lines;
    return 'httpd.conf:' . ($n + 1);
}

# The rules of OTLP, for all spans that came.
sub lint {
    my ($s) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @spans = $s->{collector}->spans;
    Test::More::is join("\n", EdgespanTest::Otlp::lint(\@spans)), '',
        @spans . ' spans keep the rules';
}

# The record of a request over HTTP/2, with more arguments for curl.
sub get_h2 {
    my ($s, $path, @more) = @_;
    return scalar recorded($s, sub {
        system 'curl', '-s', '-o', '/dev/null', '--http2-prior-knowledge', @more,
            "http://127.0.0.1:@{[$s->port]}$path";
    });
}

1;
