# One gateway, whichever server it is: the same exporter options, the same load,
# and the account of every span that it made.
package EdgespanTest::Edge;

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET;
use List::Util qw(sum0);
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::HttpdTraced ();
use EdgespanTest::NginxTraced;

our @EXPORT = qw(edge request requested latencies burst made dropped_spans percentile);

# $options are the exporter's, [ name => value ... ] as in nginx's block; more of
# %opt: collector (a new one, unless there is an endpoint), endpoint (its URL), http (more of the configuration by server:
# {nginx => ..., httpd => ...}), and what the server's own class takes.
sub edge {
    my ($kind, $options, %opt) = @_;
    my $c = delete $opt{collector}
        // EdgespanTest::Collector->new(start => !$opt{endpoint});
    my $endpoint = delete $opt{endpoint} // $c->url;
    my $more = (delete $opt{http} // {})->{$kind} // '';
    my @pairs = map { [ splice @$options, 0, 2 ] } 1 .. @$options / 2;
    my %common = (collector => $c, workers => 2,
        vars => { COLLECTOR => $endpoint, %{ delete $opt{vars} // {} } }, %opt);
    my $s;
    if ($kind eq 'nginx') {
        $s = EdgespanTest::NginxTraced->new(%common,
            exporter => join(' ', map {"$_->[0] $_->[1];"} @pairs),
            http => "otel_service_name edge;\nkeepalive_requests 1000000;\n"
                . "server { listen 127.0.0.1:%%PORT1%%;\n$more\n"
                . ' location / { return 200 ok; } }');
    }
    else {
        $s = EdgespanTest::HttpdTraced::traced(%common,
            exporter => join(' ', map { _httpd_option(@$_) } @pairs),
            http => "MaxKeepAliveRequests 0\nKeepAliveTimeout 60\n$more");
    }
    $s->{edge_port} = sub { $kind eq 'nginx' ? $s->port(1) : $s->port };
    $s->{since} = time;
    return $s->start;
}

# httpd has one word per option.
sub _httpd_option {
    my ($name, $value) = @_;
    return "header=$1:$2" if $name eq 'header' && $value =~ /^(\S+) (.*)/;
    return "spool=$1 spool_max=$2" if $name eq 'spool' && $value =~ /^(\S+) max=(.*)/;
    return "$name=$value";
}

# So many requests, one after the other: a span each.
sub request {
    my ($s, $n) = @_;
    for (1 .. $n // 1) {
        my $answer = http_get($s->{edge_port}->(), '/index.html');
        die "no answer of $s->{prefix}\n" unless $answer->{status};
        $s->{requested}++;
    }
    return;
}

sub requested { return $_[0]{requested} // 0 }

# Seconds that each of some requests over one connection took.
sub latencies {
    my ($s, $count, $path) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $s->{edge_port}->()) or die "connect: $!";
    my $request = 'GET ' . ($path // '/index.html') . " HTTP/1.1\r\nHost: x\r\n\r\n";
    my @took;
    for (1 .. $count) {
        my $from = time;
        syswrite $sock, $request;
        sysread $sock, my $answer, 65536 or die 'no answer';
        push @took, time - $from;
    }
    return @took;
}

sub percentile {
    my ($percent, @values) = @_;
    return (sort { $a <=> $b } @values)[ int(@values * $percent / 100) ];
}

# Many requests; every one of them is answered with 200.
sub burst {
    my ($s, $count) = @_;
    my $port = $s->{edge_port}->();
    my $out = `ab -q -k -l -n $count -c 4 http://127.0.0.1:$port/index.html 2>&1`;
    my ($failed) = $out =~ /^Failed requests:\s+(\d+)/m;
    die "ab: $out" unless $? == 0 && defined $failed && !$failed && $out !~ /^Non-2xx/m;
    return;
}

# {span id => 1} of what the access log says was recorded.
sub made {
    my ($s) = @_;
    my $text = slurp($s->prefix . '/edge.log') // '';
    return { map { $_ => 1 } $text =~ /"span":"([0-9a-f]{16})"/g };
}

# {reason => spans} as the log says in the end: its last line of a reason has the
# total.
sub dropped_spans {
    my ($s) = @_;
    my %total = $s->error_log
        =~ /\d+ spans dropped: ([^(]+) \((\d+) since the start\)/g;
    return \%total;
}

1;
