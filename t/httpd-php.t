# httpd: PHP, as most have it: PHP-FPM behind mod_proxy_fcgi.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::PhpFpm;

plan skip_all => 'no PHP-FPM' if !EdgespanTest::PhpFpm::program();

my $php = EdgespanTest::PhpFpm->new->start;
my $s = traced(workers => 1, files => {
        'html/env.php'       => '<?php foreach ($_SERVER as $k => $v) if (is_string($v)) echo "$k=$v\n";',
        'html/slow.php'      => '<?php usleep(300000); echo "slow";',
        'html/error.php'     => '<?php http_response_code(503); echo "busy";',
        'html/dies.php'      => '<?php exec("kill -9 " . getmypid());',
        'html/fails.php'     => '<?php no_such_function();',
        'html/cut.php'       => '<?php echo str_repeat("x", 100000); flush(); exec("kill -9 " . getmypid());',
        'html/app/index.php' => '<?php echo $_SERVER["REQUEST_URI"];',
        'html/app/.htaccess' => "RewriteEngine On\nRewriteCond %{REQUEST_FILENAME} !-f\nRewriteRule . index.php [L]\n",
    }, extra => ['rewrite'], vars => { SOCKET => $php->socket_file }, http => <<'END')->start;
DirectoryIndex index.php
<Directory %%PREFIX%%/html>
AllowOverride All
</Directory>
<FilesMatch \.php$>
SetHandler "proxy:unix:%%SOCKET%%|fcgi://localhost"
</FilesMatch>
END

sub client {
    my ($span) = @_;
    my ($client, @more) = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    is @more, 0, 'one try';
    is $client->{parent_span_id}, $span->{span_id}, 'below the request';
    return $client;
}

subtest 'a script' => sub {
    my $span = get($s, '/env.php?a=1');
    my $client = client($span);
    my $env = env_of($span->{response});
    is $env->{HTTP_TRACEPARENT}, "00-$span->{trace_id}-$client->{span_id}-03", 'sees its span';
    is $env->{OTEL_TRACE_ID}, $span->{trace_id}, 'and the trace in its environment';
    is $client->{attrs}{'network.peer.address'}, $php->socket_file, 'the socket is the peer';
    cmp_ok $client->{attrs}{'edgespan.time.upstream_connect'}, '>', 0, 'connected';
};

subtest 'a slow script' => sub {
    my $span = get($s, '/slow.php');
    cmp_ok $span->{attrs}{'edgespan.time.upstream_first_byte'}, '>=', 0.3, 'is the slow one';
};

subtest 'scripts that fail' => sub {
    my %status = ('/error.php' => 503, '/fails.php' => 500);
    for my $path (sort keys %status) {
        my $span = get($s, $path);
        my $client = client($span);
        is $client->{attrs}{'http.response.status_code'}, $status{$path}, "$path: its status";
        is $_->{attrs}{'error.type'}, $status{$path}, 'is the error' for $client, $span;
    }
};

subtest 'processes that die' => sub {
    my $span = get($s, '/dies.php');
    is $span->{attrs}{'http.response.status_code'}, 503, 'no answer';
    is client($span)->{attrs}{'error.type'}, 'no_response', 'of somebody who was there';

    $span = get($s, '/cut.php');
    is client($span)->{attrs}{'error.type'}, 'upstream_response_truncated', 'half an answer';
    is $span->{attrs}{'error.type'}, 'upstream_response_truncated', 'which the client got';
};

subtest 'a front controller' => sub {
    for my $path ('/app/', '/app/orders/1') {
        my $span = get($s, $path);
        is $span->{response}{body}, $path, "$path by index.php";
        is client($span)->{attrs}{'http.response.status_code'}, 200, 'its status';
        my @sub = $s->{collector}->spans(kind => 'INTERNAL', trace_id => $span->{trace_id});
        is @sub, 0, 'no subrequest';
    }
};

subtest 'no PHP-FPM' => sub {
    $php->stop;
    my $span = get($s, '/env.php');
    is client($span)->{attrs}{'error.type'}, 'connection_failed', 'nobody there';
    cmp_ok $span->{attrs}{'edgespan.time.upstream_connect'}, '>', 0, 'to connect to';
};

lint($s);
$s->finish;
$php->finish;
done_testing;
