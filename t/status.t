# What tracing says of itself, asked of both servers: the counters move with what
# is requested, survive reloads, and are shown only to whom they are meant for.

use strict;
use warnings;

use IO::Socket::INET;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;

my $PARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-';

# Decisions that the requests here do not lead to.
my @UNUSED = qw(always_off_unsampled ratio_sampled target_sampled target_unsampled
    override_sampled override_unsampled limit_unsampled);

# An address of this machine that is not loopback; connecting to it makes it the
# peer's address, too.
my $OUTSIDE = do {
    my $sock = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '192.0.2.1', PeerPort => 9);
    my $address = $sock ? $sock->sockhost : '127.0.0.1';
    $address =~ /^(?:127|0)\./ ? undef : $address;
};

# Both listen on all addresses; port 1 is what is asked.
my %server = (
    nginx => sub {
        my ($collector, %opt) = @_;
        my $more = delete $opt{http} // '';
        return EdgespanTest::Nginx->new(workers => 2, %opt,
            vars => {COLLECTOR => $collector->url}, http => <<"END");
    otel_exporter { endpoint %%COLLECTOR%%; interval 20ms; header authorization "Bearer hunter2"; }
    otel_trace on;
    server {
        listen 0.0.0.0:%%PORT1%%;
        location / { return 200 "ok\\n"; }
        location /never { otel_sample_rate 0; return 200 "ok\\n"; }
        location /off { otel_trace \$arg_trace; return 200 "ok\\n"; }
        location /untraced { otel_trace off; return 200 "ok\\n"; }
        location = /status { otel_status; otel_trace on; }
        $more
    }
END
    },
    httpd => sub {
        my ($collector, %opt) = @_;
        my $more = delete $opt{http} // '';
        my $s = EdgespanTest::Httpd->new(%opt, extra => ['authz_host', 'access_compat'],
            vars => {COLLECTOR => $collector->url}, http => <<"END");
Listen 0.0.0.0:%%PORT1%%
OtelExporter %%COLLECTOR%% interval=20ms "header=Authorization:Bearer hunter2"
OtelTrace On
<Location /never>
    OtelSampleRate 0
</Location>
<Location /off>
    OtelTrace "expr=%{QUERY_STRING} =~ /trace=on/"
</Location>
<Location /untraced>
    OtelTrace Off
</Location>
<Location /status>
    SetHandler otel-status
    OtelTrace On
</Location>
$more
END
        $s->write_file("html/$_", "ok\n") for qw(index.html never off untraced);
        return $s;
    },
);

# Two of the limits' three requests a minute at once.
my %SAMPLING = (
    nginx => <<'END',
        otel_sample_limit 3r/m burst=2;
        location /target { otel_sample_target 5r/s max=50%; return 200 "ok\n"; }
        location /keep { otel_sample_rate 0; otel_sample_keep status=404 limit=1r/m; return 404; }
END
    httpd => <<'END',
OtelSampleLimit 3r/m burst=2
<Location /target>
    OtelSampleTarget 5r/s max=50%
</Location>
<Location /keep>
    OtelSampleRate 0
    OtelSampleKeep status=404 limit=1r/m
</Location>
END
);

sub status {
    my ($s) = @_;
    my $res = http_get($s->port(1), '/status?format=json');
    is $res->{status}, 200, 'the status' if $res->{status} != 200;
    return JSON::PP::decode_json($res->{body});
}

# The status, once $code says yes to it.
sub status_when {
    my ($s, $what, $code) = @_;
    my $status;
    wait_for(sub { $status = status($s); $code->($status) }, 20, $what);
    return $status;
}

sub code_of {
    my ($s, $address, $path, %opt) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => $address, PeerPort => $s->port(1),
        Timeout => 10) or die "connect to $address: $!\n";
    my $headers = join '', map {"$_->[0]: $_->[1]\r\n"} @{ $opt{headers} || [] };
    my $method = $opt{method} // 'GET';
    print $sock "$method $path HTTP/1.1\r\nHost: x\r\nConnection: close\r\n$headers\r\n";
    local $/;
    return parse_response(scalar(<$sock>) // '')->{status};
}

for my $name (sort keys %server) {
    subtest "$name: counters" => sub {
        my $collector = EdgespanTest::Collector->new;
        my $s = $server{$name}->($collector)->start;
        my $port = $s->port(1);

        my $first = status($s);
        is $first->{server}{product}, $name, 'whose status it is';
        is $first->{spans}{started}, 0, 'nothing was traced yet, the status neither';
        is_deeply [ sort keys %{ $first->{spans}{dropped} } ],
            [ sort qw(queue_full exporter_too_slow rejected corrupt_record exporter_died
                shutdown_timeout spool_full spool_corrupt) ], 'all reasons are there';

        http_get($port, '/') for 1 .. 3;
        http_get($port, '/', headers => [[ traceparent => "${PARENT}01" ]]) for 1 .. 4;
        http_get($port, '/', headers => [[ traceparent => "${PARENT}00" ]]) for 1 .. 5;
        http_get($port, '/never') for 1 .. 6;
        http_get($port, '/off') for 1 .. 7;
        http_get($port, '/untraced') for 1 .. 8;

        my $status = status_when($s, '7 spans sent', sub { $_[0]{exporters}[0]{sent_spans} >= 7 });
        is_deeply $status->{spans}{decided}, {(map { $_ => 0 } @UNUSED),
            always_on_sampled => 3, parent_sampled => 4, parent_unsampled => 5,
            ratio_unsampled => 6, off_unsampled => 7}, 'decided why';
        is $status->{spans}{started}, 25, 'started';
        is $status->{spans}{sampled}, 7, 'sampled';
        is_deeply $status->{spans}{queued}, {server => 7, client => 0, internal => 0}, 'queued';
        is $status->{exporters}[0]{state}, 'working', 'its exporter works';
        is $status->{exporters}[0]{queued_bytes}, 0, 'nothing waits';
        like $status->{exporters}[0]{last_success}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
            'the time of the last success';
        my $bytes = 0;
        my @requests = $collector->requests;
        $bytes += $_->{size} for @requests;
        is $status->{exporters}[0]{sent_bytes}, $bytes, "$bytes bytes, as the collector got them";
        is $status->{exporters}[0]{sent_batches}, scalar @requests, 'in as many batches';
        is $status->{exporters}[0]{endpoints}[0], $collector->url, 'where to';

        $s->reload(undef, drain => 1);
        my $after = status($s);
        is_deeply $after->{spans}{decided}, $status->{spans}{decided}, 'a reload keeps them';
        is $after->{exporters}[0]{sent_spans}, 7, 'the exporters\', too';
        is $after->{server}{started}, $status->{server}{started}, 'the same start';
        isnt $after->{server}{configured}, $status->{server}{configured}, 'another generation';

        http_get($port, '/');
        status_when($s, 'the next span', sub { $_[0]{exporters}[0]{sent_spans} == 8 });
        pass 'and they go on';
        is scalar(() = $collector->spans), 8, 'the status has no spans of its own';
        $s->stop;
        $s->finish;
    };

    subtest "$name: limits, targets and what is kept" => sub {
        my $collector = EdgespanTest::Collector->new;
        my $s = $server{$name}->($collector, http => $SAMPLING{$name})->start;
        my $port = $s->port(1);

        my $first = status($s);
        is_deeply [ map { [ @$_{qw(of per_second refused state)} ] } @{ $first->{limits} } ],
            [ [ 'sampled', 0.05, 0, 'open' ], [ 'kept', 1 / 60, 0, 'open' ] ], 'two limits';
        is_deeply [ map { [ @$_{qw(per_second probability)} ] } @{ $first->{targets} } ],
            [ [ 5, 0.5 ] ], 'a target, at its most';
        like $_->{place}, qr/^\S+\.conf:\d+$/, "the place: $_->{place}"
            for @{ $first->{limits} }, @{ $first->{targets} };

        http_get($port, '/') for 1 .. 5;
        http_get($port, '/keep') for 1 .. 3;
        my $status = status_when($s, 'all ended', sub { $_[0]{spans}{started} == 8 });
        is $status->{spans}{decided}{limit_unsampled}, 3, 'over the limit';
        is $status->{spans}{decided}{always_on_sampled}, 2, 'below it';
        is $status->{limits}[0]{refused}, 3, 'the limit says so';
        is $status->{limits}[0]{state}, 'refusing', 'and that it does so now';
        is_deeply $status->{spans}{kept}, {error => 0, slow => 0, status => 1}, 'kept';
        is $status->{spans}{keep_limited}, 2, 'not kept';
        is $status->{limits}[1]{refused}, 2, 'by its limit';
        status_when($s, '3 spans sent', sub { $_[0]{exporters}[0]{sent_spans} == 3 });

        # A target that is exceeded goes down, for all processes.
        http_get($port, '/target') for 1 .. 10;
        status_when($s, 'another probability', sub {
            http_get($port, '/target') for 1 .. 10;
            $_[0]{targets}[0]{probability} < 0.5;
        });
        pass 'and is seen to follow the load';

        my $text = http_get($port, '/status')->{body};
        like $text, qr/^limits\.0\.state +refusing$/m, 'a limit in text';
        like $text, qr/^targets\.0\.probability +0\.\d+$/m, 'a target in text';
        $s->stop;
        $s->finish;
        $collector->stop;
    };

    subtest "$name: text, JSON, methods" => sub {
        my $collector = EdgespanTest::Collector->new;
        my $s = $server{$name}->($collector)->start;
        my $port = $s->port(1);

        my $text = http_get($port, '/status');
        like header($text, 'Content-Type'), qr{^text/plain\b}, 'text';
        is header($text, 'Cache-Control'), 'no-store', 'of this moment';
        like $text->{body}, qr/^spans\.decided\.parent_sampled +0$/m, 'a fact is a line';
        like $text->{body}, qr/^leader\.pid +\d+$/m, 'another';
        unlike $text->{body}, qr/hunter2/, 'no credentials';

        my $json = http_get($port, '/status', headers => [[ Accept => 'application/json' ]]);
        is header($json, 'Content-Type'), 'application/json', 'JSON for who accepts it';
        my $tree = JSON::PP::decode_json($json->{body});
        my @paths = paths('', $tree);
        my @lines = map {/^(\S+) /} split /\n/, $text->{body};
        is_deeply [ sort @lines ], [ sort @paths ], 'the same names in both';

        $json = http_get($port, '/status', headers => [
            [ Accept => 'application/json' ], [ Accept => 'text/html' ]]);
        is header($json, 'Content-Type'), 'application/json', 'one "Accept" of two is enough';

        my $head = http_get($port, '/status', method => 'HEAD');
        is $head->{status}, 200, 'HEAD';
        is $head->{body}, '', 'has no body';
        cmp_ok header($head, 'Content-Length'), '>', 500, 'but its length';
        is http_get($port, '/status', method => 'POST', body => 'x')->{status}, 405, 'no POST';
        is http_get($port, '/status', method => 'DELETE')->{status}, 405, 'no DELETE';
        $s->stop;
        $s->finish;
    };

    subtest "$name: what the collector refuses" => sub {
        my $collector = EdgespanTest::Collector->new(mode => 'status:400:X-Why=not');
        my $s = $server{$name}->($collector)->start;
        my $from = time - 1;

        http_get($s->port(1), '/') for 1 .. 5;
        my $status = status_when($s, 'drops', sub { $_[0]{spans}{dropped}{rejected} == 5 });
        my $exporter = $status->{exporters}[0];
        is $exporter->{dropped}{rejected}, 5, 'counted for the exporter';
        is $exporter->{sent_spans}, 0, 'and not as sent';
        like $exporter->{last_error}{message}, qr/\Q@{[$collector->url]}\E: a batch was rejected: .*400/,
            'the last error';
        my ($time) = $exporter->{last_error}{time} =~ /T(\d\d:\d\d:\d\d)/;
        my @possible = map { sprintf '%02d:%02d:%02d', reverse((gmtime)[0 .. 2]) } $from .. time + 1;
        ok +(grep { $_ eq $time } @possible), "at $time";

        $collector->mode('partial:2');
        http_get($s->port(1), '/') for 1 .. 3;
        $status = status_when($s, 'partial success', sub {
            my $e = $_[0]{exporters}[0];
            $e->{sent_spans} + $e->{dropped}{rejected} == 8 && $e->{last_error}{message} =~ /part/;
        });
        like $status->{exporters}[0]{last_error}{message}, qr/part of a batch was rejected: x/,
            'in the collector\'s words';

        $collector->mode('status:503');
        http_get($s->port(1), '/');
        $status = status_when($s, 'a failing exporter',
            sub { $_[0]{exporters}[0]{state} eq 'failing' && $_[0]{exporters}[0]{retried_batches} });
        like $status->{exporters}[0]{last_error}{message}, qr/tried again: .*503/, 'why it fails';
        cmp_ok $status->{exporters}[0]{queued_bytes}, '>', 0, 'a span waits';

        $collector->mode('ok');
        status_when($s, 'recovery', sub { $_[0]{exporters}[0]{state} eq 'working' });
        $collector->mode('status:503');
        http_get($s->port(1), '/');
        status_when($s, 'a second failure', sub { $_[0]{exporters}[0]{state} eq 'failing' });
        $collector->mode('ok');
        status_when($s, 'recovery', sub { $_[0]{exporters}[0]{state} eq 'working' });

        # Three causes, each with its line, and one "works again".
        my $log = $s->error_log;
        for my $cause ('a batch was rejected', 'a part of a batch was rejected',
            'it failed and is tried again', 'works again') {
            is scalar(() = $log =~ /edgespan: exporting to \S+: \Q$cause\E/g), 1,
                "\"$cause\" is logged once";
        }
        unlike $log, qr/hunter2/, 'no credentials';
        $s->stop;
        $s->finish;
    };

    subtest "$name: the leader" => sub {
        my $collector = EdgespanTest::Collector->new;
        my $s = $server{$name}->($collector,
            allow => qr/signal 9|exit signal Killed|AH00052/)->start;
        my $status = status_when($s, 'a leader', sub { $_[0]{leader}{pid} });
        my $leader = $status->{leader}{pid};
        ok +(grep { $_ == $leader } $s->worker_pids), "$leader is a process of the server";
        cmp_ok $status->{leader}{heartbeat_age_seconds}, '<', 5, 'it lives';

        # Stopped, it neither turns nor serves; the other process answers.
        kill STOP => $leader;
        $status = eval { stopped_status($s) };
        kill CONT => $leader;
        ok $status, 'the age of the heartbeat grows while it is stopped' or diag $@;
        status_when($s, 'its next turn', sub { $_[0]{leader}{heartbeat_age_seconds} < 1.5 });

        kill KILL => $leader;
        $status = status_when($s, 'another leader',
            sub { $_[0]{leader}{pid} && $_[0]{leader}{pid} != $leader });
        ok +(grep { $_ == $status->{leader}{pid} } $s->worker_pids), 'after a kill, another leads';
        status_when($s, 'processor time', sub { $_[0]{leader}{cpu_seconds} > 0 });
        pass 'it says what processor time exporting took';
        $s->stop;
        $s->finish;
    };

    subtest "$name: tracing that did not begin" => sub {
        my $s = $server{$name}->(EdgespanTest::Collector->new,
            env => {OTEL_SDK_DISABLED => 'true'})->start;
        is http_get($s->port(1), '/status')->{status}, 503, 'has no status';
        like $s->error_log, qr/otel.status"? has nothing to show/, 'the log says why';
        is http_get($s->port(1), '/')->{status}, 200, 'the rest is served';
        $s->stop;
        $s->finish;
    };

    subtest "$name: who may see it" => sub {
        plan skip_all => 'this machine has no address but loopback' unless $OUTSIDE;
        my $collector = EdgespanTest::Collector->new;
        my $s = $server{$name}->($collector, http => access_rules($name));
        $s->write_file('passwords', "me:{PLAIN}secret\n") if $name eq 'nginx';
        $s->start;
        my $from = sub { code_of($s, @_) };

        is $from->('127.0.0.1', '/status'), 200, 'loopback';
        is $from->('127.9.9.9', '/status'), 200, 'all of it';
        is $from->($OUTSIDE, '/status'), 403, 'no other';
        for my $header ('X-Forwarded-For', 'Forwarded', 'X-Real-IP', 'Via') {
            is $from->('127.0.0.1', '/status', headers => [[ $header => '127.0.0.1' ]]), 403,
                "not for whom a proxy asks ($header)";
        }
        is $from->($OUTSIDE, '/allowed'), 200, 'where a rule allows it';
        is $from->('127.0.0.1', '/allowed', headers => [[ 'X-Forwarded-For' => '10.1.1.1' ]]), 200,
            'by a proxy, too';
        is $from->($OUTSIDE, '/denied'), 403, 'where a rule denies it';
        is $from->($OUTSIDE, '/elsewhere'), 403, 'a rule about others opens nothing';
        is $from->('127.0.0.1', '/elsewhere'), 200, 'and closes nothing';
        like $s->error_log, qr/edgespan: .*only for this machine/, 'the log says why';
        extra_rules($name, $from);
        $s->stop;
        $s->finish;
    };
}

# Connections until one is taken by a process that is not stopped.
sub stopped_status {
    my ($s) = @_;
    my $status;
    wait_for(sub {
        my $res = eval { http_get($s->port(1), '/status?format=json', timeout => 0.5) };
        $status = $res && $res->{status} == 200 ? JSON::PP::decode_json($res->{body}) : undef;
        $status && $status->{leader}{heartbeat_age_seconds} > 2.5;
    }, 30, 'an old heartbeat');
    return $status;
}

sub paths {
    my ($path, $value) = @_;
    my $below = sub { $path eq '' ? $_[0] : "$path.$_[0]" };
    return map { paths($below->($_), $value->{$_}) } keys %$value if ref $value eq 'HASH';
    return map { paths($below->($_), $value->[$_]) } 0 .. $#$value if ref $value eq 'ARRAY';
    return $path;
}

sub access_rules {
    my ($name) = @_;
    return <<'END' if $name eq 'nginx';
        location = /allowed { otel_status json; allow all; }
        location = /denied { otel_status; deny all; }
        location = /elsewhere { otel_status; deny 10.255.255.1; }
        location = /secret { otel_status; auth_basic x; auth_basic_user_file %%PREFIX%%/passwords; }
        location = /both { otel_status; allow all; auth_basic x; auth_basic_user_file %%PREFIX%%/passwords; }
        location = /any { otel_status; satisfy any; deny all; auth_basic x; auth_basic_user_file %%PREFIX%%/passwords; }
        location = /asks { otel_status; auth_request /auth; }
        location = /auth { internal; return 204; }
        location = /real { otel_status; set_real_ip_from 0.0.0.0/0; real_ip_header X-Client; }
        location = /sub { auth_request /both; }
END
    return <<'END';
<Location />
    Require all granted
</Location>
<Location /allowed>
    SetHandler otel-status
    Require all granted
</Location>
<Location /denied>
    SetHandler otel-status
    Require all denied
</Location>
<Location /elsewhere>
    SetHandler otel-status
</Location>
<Location /nested>
    SetHandler otel-status
    <RequireAny>
        Require ip 10.255.255.1
        Require expr "%{QUERY_STRING} == 'please'"
    </RequireAny>
</Location>
<Location /allow>
    SetHandler otel-status
    Allow from 10.255.255.1
</Location>
<Location /order>
    SetHandler otel-status
    Order allow,deny
    Allow from all
</Location>
<Location /no-more>
    SetHandler otel-status
    Require all granted
</Location>
<Location /no-more>
    SetHandler otel-status
</Location>
END
}

sub extra_rules {
    my ($name, $from) = @_;
    if ($name eq 'httpd') {
        is $from->($OUTSIDE, '/nested'), 403, 'nested rules: no';
        is $from->($OUTSIDE, '/nested?please'), 200, 'nested rules: yes';
        is $from->($OUTSIDE, '/no-more'), 403, 'the last section counts';
        is $from->($OUTSIDE, '/allow'), 403, '"Allow" alone, which closes nothing, opens nothing';
        is $from->($OUTSIDE, '/order'), 200, 'but with what closes';
        return;
    }
    my @password = (headers => [[ Authorization => 'Basic bWU6c2VjcmV0' ]]);
    for my $path ('/secret', '/both', '/any') {
        is $from->($OUTSIDE, $path), 401, "$path without the password";
        is $from->($OUTSIDE, $path, @password), 200, "$path with it";
    }
    is $from->($OUTSIDE, '/asks'), 200, 'auth_request';
    is $from->($OUTSIDE, '/real'), 403, 'a real address that is not local';
    is $from->($OUTSIDE, '/real', headers => [[ 'X-Client' => '127.0.0.1' ]]), 403,
        'realip cannot make it local';
    is $from->('127.0.0.1', '/real', headers => [[ 'X-Client' => '10.1.1.1' ]]), 403,
        'nor does a local proxy make its client local';
    is $from->($OUTSIDE, '/sub'), 403, 'nor a subrequest';
}

subtest 'nginx: a connection that outlives a reload with master_process off' => sub {
    my $s = $server{nginx}->(EdgespanTest::Collector->new, master => 0, workers => 1)->start;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->port(1)) or die;
    my $ask = sub {
        syswrite $sock, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
        sysread $sock, my $answer, 65536;
        return $answer // '';
    };
    like $ask->(), qr/^HTTP\S+ 200 /, 'the status';
    my $mark = $s->log_mark;
    $s->signal('HUP');
    $s->wait_log(qr/exporting to .* spans sent/, 10, $mark);
    like $ask->(), qr/^HTTP\S+ 200 /, 'and again';
    ok $s->running, 'it lives';
    $s->stop;
    $s->finish;
};

subtest 'nginx: otel_status in the configuration' => sub {
    my $n = EdgespanTest::Nginx->new(http => '');
    my $try = sub { $n->test("server { listen 127.0.0.1:%%PORT%%; location / { $_[0] } }") };
    my ($ok, $text) = $try->('otel_status xml;');
    ok !$ok, 'another format is refused';
    like $text, qr/invalid format "xml": it is "text" or "json" in \S+nginx\.conf:\d+/, 'with words';
    ($ok, $text) = $try->('otel_status; otel_status json;');
    like $text, qr/"otel_status" directive is duplicate/, 'twice is refused';
    ($ok) = $try->('otel_status text;');
    ok $ok, 'alone it is fine';
};

done_testing;
