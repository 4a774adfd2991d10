# An nginx or httpd that traces every request to one endpoint, told apart by
# nothing but their names: what its exporter does is the same in both.
package EdgespanTest::GrpcTraced;

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(sum0);

use EdgespanTest;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;

our @EXPORT = qw(exporting request made dropped libcurl_has_bug_10634);

my $NGINX = <<'CONF';
otel_exporter { endpoint %%ENDPOINT%%; %%OPTIONS%% }
otel_service_name edge;
otel_trace on;
server { listen 127.0.0.1:%%PORT1%%; location / { return 200 "ok"; } }
CONF

my $HTTPD = <<'CONF';
OtelExporter %%ENDPOINT%% %%OPTIONS%%
OtelServiceName edge
OtelTrace On
CONF

# $options: [name => value, ...]; an interval of 20ms is added.
sub exporting {
    my ($kind, $endpoint, $options, %opt) = @_;
    my %given = my @options = @{ $options || [] };
    push @options, interval => '20ms' unless $given{interval};
    my @text;
    while (my ($name, $value) = splice @options, 0, 2) {
        push @text, $kind eq 'nginx' ? "$name $value;" : "$name=$value";
    }
    my $class = $kind eq 'nginx' ? 'EdgespanTest::Nginx' : 'EdgespanTest::Httpd';
    my $server = $class->new(workers => 2, %opt,
        http => $kind eq 'nginx' ? $NGINX : $HTTPD,
        files => { 'html/index.html' => 'ok', %{ $opt{files} || {} } },
        vars => { ENDPOINT => $endpoint, OPTIONS => "@text" });
    $server->{requested} = 0;
    return $server->start;
}

# So many requests, one after the other: a span each.
sub request {
    my ($server, $n) = @_;
    for (1 .. $n // 1) {
        my $res = http_get($server->port($server->kind eq 'nginx' ? 1 : ()), '/');
        die "no answer of $server->{prefix}\n" unless $res->{status};
        $server->{requested}++;
    }
    return;
}

sub made { return $_[0]{requested} }

# {reason => spans} as the log says in the end.
sub dropped {
    my ($server) = @_;
    my %total = $server->error_log
        =~ /edgespan: \d+ spans dropped: ([^(]+) \((\d+) since the start\)/g;
    return \%total;
}

# It cannot use a plain HTTP/2 connection twice.
sub libcurl_has_bug_10634 { return `curl --version` =~ m{libcurl/7\.88\.} ? 1 : 0 }

1;
