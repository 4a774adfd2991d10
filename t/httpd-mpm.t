# httpd: many requests at once, over HTTP/1.1 and HTTP/2, in each MPM: each has its own
# trace, on whatever threads it ran.

use strict;
use warnings;

use POSIX ();
use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Http2;
use EdgespanTest::Httpd;
use EdgespanTest::HttpdTraced;

my @MPMS = grep { -e EdgespanTest::Httpd->system_modules . "/mod_mpm_$_.so" }
    qw(event worker prefork);

# mod_http2 says of prefork that it does not serve it.
my @CASES = ((map { [ $_ => 'HTTP/1.1', \&ask_http1 ] } @MPMS),
    map { [ $_ => 'HTTP/2', \&ask_http2 ] } grep { $_ ne 'prefork' } @MPMS);

my $REQUESTS = 80;

# Connections that are kept alive are a process each in prefork.
sub workers { return $_[0] eq 'prefork' ? 16 : 2 }

# A gateway and what it asks: two servers, so that one's threads never wait for
# each other.
sub servers {
    my ($mpm) = @_;
    my $c = EdgespanTest::Collector->new;
    my $back = traced(mpm => $mpm, collector => $c, threads => 25, workers => workers($mpm),
        http => <<'END')->start;
OtelServiceName back
OtelSpanHeader request X-N
END
    my $edge = traced(mpm => $mpm, collector => $c, threads => 25, workers => workers($mpm),
        http2 => $mpm ne 'prefork',
        vars => { BACK => '127.0.0.1:' . $back->port }, http => <<'END')->start;
OtelSpanAttr n "%{HTTP:X-N}" int
OtelSpanHeader request X-N
OtelSpanHeader response X-Answer
Header set X-Answer "expr=%{HTTP:X-N}"
<Location /otel-status>
SetHandler otel-status
</Location>
ProxyPass /up/ http://%%BACK%%/
END
    return ($edge, $back);
}

sub trace_id { return sprintf '%032x', 0xabc000 + $_[0] }

# Spans that the status counts as dropped.
sub dropped {
    my ($s) = @_;
    my $sum = 0;
    $sum += $_ for http_get($s->port, '/otel-status')->{body} =~ /^spans\.dropped\.\w+ +(\d+)$/mg;
    return $sum;
}

# The headers of the n-th request.
sub headers {
    my ($n) = @_;
    return ('x-n' => $n, traceparent => sprintf '00-%s-%016x-01', trace_id($n), $n);
}

sub target { return sprintf '%s?n=%d', $_[0] % 2 ? '/up/' : '/', $_[0] }

# All of them at once, over a few connections.
sub ask_http1 {
    my ($s, @n) = @_;
    $s->write_file('curl.conf', join "next\n", map {
        my %header = headers($_);
        join '', sprintf(qq{url = "http://127.0.0.1:%d%s"\noutput = /dev/null\n},
            $s->port, target($_)),
            map {qq{header = "$_: $header{$_}"\n}} sort keys %header;
    } @n);
    system "curl --parallel --parallel-max 12 -K @{[$s->prefix]}/curl.conf >/dev/null 2>&1";
    return $? == 0;
}

# All of them at once, over one connection.
sub ask_http2 {
    my ($s, @n) = @_;
    my $sock = h2_connect($s->port);
    h2_request($sock, 2 * $_ + 1, ':method' => 'GET', ':scheme' => 'http',
        ':path' => target($n[$_]), ':authority' => 'localhost', headers($n[$_])) for 0 .. $#n;
    return h2_answers($sock, scalar @n) == @n;
}

# Goes on until end() in a process of its own.
sub begin {
    my ($ask, $s) = @_;
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        my $stop = 0;
        local $SIG{USR1} = sub { $stop = 1 };
        local $SIG{PIPE} = 'IGNORE';
        eval { $ask->($s, 1 .. 40) } while !$stop;
        POSIX::_exit(0);
    }
    return $pid;
}

sub end {
    my ($pid) = @_;
    kill USR1 => $pid;
    waitpid $pid, 0;
    return;
}

for my $case (@CASES) {
    my ($mpm, $protocol, $ask) = @$case;
    subtest "$mpm, $protocol" => sub {
        my ($edge, $back) = servers($mpm);
        ok $ask->($edge, 1 .. $REQUESTS), 'all answered';

        # Half of them are proxied: their own, that to the upstream, the upstream's.
        my $all = $REQUESTS + $REQUESTS;
        my @spans = $edge->{collector}->wait_spans($all, 60);
        is @spans, $all, 'spans';
        my (%by_trace, @wrong);
        push @{ $by_trace{ $_->{trace_id} } }, $_ for @spans;
        for my $n (1 .. $REQUESTS) {
            my @tree = @{ $by_trace{ trace_id($n) } || [] };
            my ($server) = grep { ($_->{parent_span_id} // '') eq sprintf '%016x', $n } @tree;
            my ($client) = grep { $_->{kind} eq 'CLIENT' } @tree;
            my ($upstream) = grep { $client && $_->{parent_span_id} eq $client->{span_id} } @tree;
            my $a = $server ? $server->{attrs} : {};
            push @wrong, $n unless @tree == ($n % 2 ? 3 : 1) && $server
                && $a->{n} == $n && $a->{'url.query'} eq "n=$n"
                && $a->{'http.request.header.x-n'}[0] == $n
                && $a->{'http.response.header.x-answer'}[0] == $n
                && (!($n % 2) || ($upstream && $client->{parent_span_id} eq $server->{span_id}
                    && $upstream->{attrs}{'http.request.header.x-n'}[0] == $n));
        }
        is "@wrong", '', 'each request has its own tree, with its own attributes';

        my @records = records($edge);
        my %ids = map { $_->{span} => $_->{trace} } @records;
        my @mixed = grep { exists $ids{ $_->{span_id} } && $ids{ $_->{span_id} } ne $_->{trace_id} }
            @spans;
        is @records, $REQUESTS, 'lines in the access log';
        is @mixed, 0, 'with the ids of their spans';
        lint($edge);
        $_->finish for $edge, $back;
    };

    subtest "$mpm, $protocol: restarts in the middle of it" => sub {
        my ($edge, $back) = servers($mpm);
        my $pid = begin($ask, $edge);
        my $lines = sub { return (slurp($edge->prefix . '/edge.log') // '') =~ tr/\n// };
        wait_for(sub { $lines->() > 20 }, 60, 'some requests');
        for my $hard (0, 1) {
            $edge->reload(undef, hard => $hard, timeout => 60);
            my $before = $lines->();
            wait_for(sub { $lines->() > $before + 20 }, 60, 'more requests');
        }
        end($pid);

        # A hard one ends children in the middle of requests, which are logged then.
        my ($missing, $dropped);
        my @records = grep { $_->{trace} ne '-' } records($edge);
        eval { wait_for(sub {
            my $have = $edge->{collector}->span_ids_fast;
            $missing = grep { !$have->{ $_->{span} } } @records;
            $dropped = dropped($edge);
            return $missing <= $dropped;
        }, 30, 'all spans') };
        cmp_ok @records, '>', 60, @records . ' requests';
        cmp_ok $missing, '<=', $dropped, "$missing did not arrive, $dropped are counted";
        $_->finish for $edge, $back;
    };
}

done_testing;
