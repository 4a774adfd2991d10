# The override file on both servers: rates that change without a reload, for the
# requests of all processes, and end by themselves.

use strict;
use warnings;

use JSON::PP ();
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;

my $LATER = '2200-01-01T00:00Z';
my $DROP = qr/^drop ratio=0 \(\w+\.conf:\d+\)$/;

# Options besides the server's: collector, undef for none. "why.log" tells which
# process decided what.
my %server = (
    nginx => sub {
        my ($collector, %opt) = @_;
        my $exporter = $collector
            ? "otel_exporter { endpoint @{[$collector->url]}; interval 20ms; }" : '';
        return EdgespanTest::Nginx->new(workers => 2, %opt, http => <<"END");
    log_format why '\$pid \$request_uri \$otel_decision';
    $exporter
    otel_trace on;
    otel_override override;
    otel_sample_rate 0;
    server {
        listen 127.0.0.1:%%PORT1%% reuseport;
        access_log %%PREFIX%%/why.log why;
        location / { return 200 "ok\\n"; }
        location /on { otel_sample_rate 1; return 200 "ok\\n"; }
        location /shop { rewrite ^/shop(.*) /checkout\$1 last; }
        location = /status { otel_status json; access_log off; }
    }
END
    },
    httpd => sub {
        my ($collector, %opt) = @_;
        my $exporter = $collector
            ? "OtelExporter @{[$collector->url]} interval=20ms" : '';
        return EdgespanTest::Httpd->new(%opt, http => <<"END");
LogFormat "%P %U%q %{OTEL_DECISION}e" why
SetEnvIf Request_URI "^/status\$" quiet
CustomLog %%PREFIX%%/why.log why env=!quiet
RewriteEngine On
RewriteRule ^/shop(.*) /checkout\$1 [PT]
AliasMatch "^/(?!status)" %%PREFIX%%/html/index.html
$exporter
OtelTrace On
OtelOverride override
OtelSampleRate 0
<Location /on>
    OtelSampleRate 1
</Location>
<Location /status>
    SetHandler otel-status
</Location>
END
    },
);

# httpd has another user than root by itself.
my %nobody = (
    nginx => {user => $> == 0 ? 'nobody ' . getgrgid((getpwnam 'nobody')[3]) : undef},
    httpd => {},
);

# The file, in one piece.
sub put {
    my ($s, $text, $mode) = @_;
    my $new = $s->write_file('override.new', $text, $mode);
    rename $new, $s->prefix . '/override' or die "rename: $!\n";
    return;
}

# The process that answered, and why it recorded the request or not.
{
    my $n = 0;
    sub ask {
        my ($s, $path) = @_;
        my $uri = "$path?" . ++$n;
        http_get($s->port, $uri);
        my ($pid, $why);
        wait_for(sub {
            ($pid, $why) = (slurp($s->prefix . '/why.log') // '') =~ /^(\d+) \S+\?$n (.*)\n/m;
        }, 10, "a log line of $uri");
        return wantarray ? ($pid, $why) : $why;
    }
}

# Seconds until a request of $path is decided so.
sub until_decided {
    my ($s, $path, $regex) = @_;
    my ($from, $why) = (time, '');
    eval { wait_for(sub { ($why = ask($s, $path)) =~ $regex }, 10, "$path: $regex") }
        or die "$@ but it is: $why\n", grep {/edgespan/} split /^/, $s->error_log;
    return time - $from;
}

sub status {
    my ($s) = @_;
    return JSON::PP::decode_json(http_get($s->port, '/status?format=json')->{body});
}

sub logged {
    my ($s, $regex) = @_;
    return scalar(() = $s->error_log =~ /edgespan: override: $regex/g);
}

for my $name (sort keys %server) {
    subtest "$name: an incident" => sub {
        my $collector = EdgespanTest::Collector->new;
        my $s = $server{$name}->($collector,
            allow => qr/signal 9|exit signal Killed|AH00052/)->start;
        my $file = $s->prefix . '/override';

        like ask($s, '/checkout'), $DROP, 'without a file: as configured';
        is_deeply status($s)->{override}, [], 'nothing in force';

        put($s, "# an incident\n/checkout 100% until $LATER\n/on 0 until $LATER\n");
        cmp_ok until_decided($s, '/checkout', qr/override/), '<', 8, 'seen soon';
        is ask($s, '/checkout/cart'), 'override=1 (override:2)', 'what is below';
        is ask($s, '/checkout'), 'override=1 (override:2)', 'with the line of the file';
        like ask($s, '/checkouts'), $DROP, 'whole segments only';
        like ask($s, '/'), $DROP, 'others are as they were';
        like ask($s, '/shop/cart'), $DROP, 'what the client asked for counts, not what became of it';
        is ask($s, '/on'), 'drop override=0 (override:3)', 'it takes the place of any rate';
        is logged($s, qr/2 entries of \Q$file\E, until 2200-01-01T/), 1, 'the log says so';
        is_deeply status($s)->{override}, [
            {path => '/checkout', probability => 1, until => '2200-01-01T00:00:00.000Z'},
            {path => '/on', probability => 0, until => '2200-01-01T00:00:00.000Z'},
        ], 'the status, too';

        my %seen;
        wait_for(sub {
            my ($pid, $why) = ask($s, '/checkout');
            die "process $pid: $why\n" if $why ne 'override=1 (override:2)';
            $seen{$pid}++;
            keys %seen == 2;
        }, 20, 'both processes');
        pass 'two processes see it';

        $collector->wait_spans(1, 10, attr => {'url.path' => '/checkout/cart'});
        ok !(grep { $_->{attrs}{'url.path'} !~ m{^/checkout(?:/|$)} } $collector->spans),
            'its requests arrive, and no others';

        put($s, "/checkout 100% till $LATER\n");
        $s->wait_log(qr/override: \Q$file\E:1: "till" is not "until"/, 10);
        is ask($s, '/checkout'), 'override=1 (override:2)', 'a broken file: the old one counts';
        my $looked = time;
        wait_for(sub { ask($s, '/checkout'); time > $looked + 2.2 }, 10, 'two more looks');
        is logged($s, qr/\S+:1:/), 1, 'one line about it';
        is ask($s, '/checkout'), 'override=1 (override:2)', 'and it goes on counting';

        put($s, "/checkout 1 until $LATER\n");
        until_decided($s, '/checkout', qr/override:1/);
        $s->reload(undef, drain => 1);
        until_decided($s, '/checkout', qr/^\Qoverride=1 (override:1)\E$/);
        pass 'a reload keeps it';

        my $leader = wait_for(sub { status($s)->{leader}{pid} }, 10, 'a leader');
        kill KILL => $leader;
        wait_for(sub { my $pid = status($s)->{leader}{pid}; $pid && $pid != $leader }, 10,
            'another leader');
        is ask($s, '/checkout'), 'override=1 (override:1)', 'it outlives the leader';
        put($s, "#\n#\n/checkout 1 until $LATER\n");
        until_decided($s, '/checkout', qr/^\Qoverride=1 (override:3)\E$/);
        pass 'the next one sees a new file';

        unlink $file or die "unlink: $!\n";
        until_decided($s, '/checkout', $DROP);
        is logged($s, qr/\Q$file\E is gone, its 1 entry ended/), 1, 'removed, it ends';
        is_deeply status($s)->{override}, [], 'nothing in force';
        $s->stop;
        $s->finish;
    };

    subtest "$name: the end" => sub {
        my $s = $server{$name}->(EdgespanTest::Collector->new,
            env => {TZ => 'CET-1CEST,M3.5.0,M10.5.0/3'})->start;
        my $end = int(time) + 8;
        my $clock = do {
            local $ENV{TZ} = 'CET-1CEST,M3.5.0,M10.5.0/3';
            POSIX::tzset();
            strftime('%H:%M:%S', localtime $end);
        };
        POSIX::tzset();

        put($s, "/checkout 0.5 until $clock\n/ 1 until $LATER\n");
        until_decided($s, '/checkout', qr/^(?:drop )?override=0\.5 \(override:1\)$/);
        cmp_ok time, '<', $end, 'in force before';
        is status($s)->{override}[0]{until}, strftime('%Y-%m-%dT%H:%M:%S.000Z', gmtime $end),
            "$clock is that moment in local time";
        until_decided($s, '/checkout', qr/^\Qoverride=1 (override:2)\E$/);
        cmp_ok time, '>=', $end, 'it ends then; the shorter path counts';
        cmp_ok time, '<', $end + 5, 'at once';
        $s->wait_log(qr/override: 1 entry of \S+ expired, 1 left/, 10);
        is_deeply [ map { $_->{path} } @{ status($s)->{override} } ], ['/'], 'the status, too';
        $s->reload(undef, drain => 1);
        until_decided($s, '/checkout', qr/^\Qoverride=1 (override:2)\E$/);
        is logged($s, qr/2 entries/), 1, 'a reload does not bring it back';
        is logged($s, qr/1 entry of \S+ expired/), 1, 'it expired once';
        $s->stop;
        $s->finish;
    };

    subtest "$name: without an exporter" => sub {
        my $s = $server{$name}->(undef, mpm => 'prefork')->start; # whose stop is another
        put($s, "/checkout 1 until $LATER\n");
        until_decided($s, '/checkout', qr/^\Qoverride=1 (override:1)\E$/);
        pass 'what upstreams are told follows the file, too';
        $s->reload(undef, drain => 1);
        until_decided($s, '/checkout', qr/^\Qoverride=1 (override:1)\E$/);
        cmp_ok $s->stop, '<', 8, 'it stops';
        $s->finish;
    };

    subtest "$name: a file that may not be read" => sub {
        my $s = $server{$name}->(EdgespanTest::Collector->new, %{ $nobody{$name} });
        put($s, "/checkout 1 until $LATER\n", 0);
        $s->start;
        $s->wait_log(qr/override: \S+ cannot be read by user id [1-9]\d*: Permission denied/, 10);
        like ask($s, '/checkout'), $DROP, 'as configured';
        chmod 0644, $s->prefix . '/override';
        until_decided($s, '/checkout', qr/^\Qoverride=1 (override:1)\E$/);
        is logged($s, qr/\S+ cannot be read/), 1, 'one line for many looks';
        $s->stop;
        $s->finish;
    };
}

done_testing;
