# httpd: the INTERNAL spans of subrequests, and what hangs on them.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

# A page that includes others, by the directory that it stands in.
sub page { return join '', map {qq{<!--#include virtual="$_" -->\n}} @_ }

my $SSI = <<'END';
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory %%PREFIX%%/html>
Options +Includes +Indexes
</Directory>
ScriptAlias /cgi/ %%PREFIX%%/cgi-bin/
END

# The INTERNAL spans of a request by their path.
sub subrequests {
    my ($s, $span) = @_;
    return map { $_->{attrs}{'url.path'} => $_ }
        $s->{collector}->spans(kind => 'INTERNAL', trace_id => $span->{trace_id});
}

sub traceparent { return "00-$_[0]{trace_id}-$_[0]{span_id}-03" }

# --- Tests ----------------------------------------------------------------

my @mpms = qw(event worker prefork);
for my $mpm (@mpms) {
    subtest "mod_include with $mpm" => sub {
        my $up = EdgespanTest::Upstream->new;
        my $s = traced(mpm => $mpm, extra => ['include'], vars => { UP => $up->address },
            files => { %SCRIPTS, 'html/page.shtml' => page(qw(/up/a /inner.shtml /cgi/env /up/b)),
                'html/inner.shtml' => page(qw(/small.txt /up/c)), 'html/small.txt' => 'small' },
            http => "$SSI\n" . <<'END')->start;
ProxyPass /up/ http://%%UP%%/
<Location /inner.shtml>
</Location>
END
        my $span = get($s, '/page.shtml');
        my %sub = subrequests($s, $span);
        is_deeply [ sort keys %sub ], [qw(/cgi/env /inner.shtml /small.txt /up/a /up/b /up/c)],
            'a span each';
        is $sub{$_}{parent_span_id}, $span->{span_id}, "$_ is below the page"
            for qw(/cgi/env /inner.shtml /up/a /up/b);
        is $sub{$_}{parent_span_id}, $sub{'/inner.shtml'}{span_id}, "$_ is below the inner one"
            for qw(/small.txt /up/c);
        is $sub{$_}{attrs}{'http.response.status_code'}, 200, "$_ has a status"
            for sort keys %sub;
        is $sub{'/inner.shtml'}{name}, 'subrequest /inner.shtml/*', 'a name with a route';
        ok $sub{$_}{start} >= $span->{start} && $sub{$_}{end} <= $span->{end},
            "$_ is within the request" for sort keys %sub;
        cmp_ok $sub{'/inner.shtml'}{end}, '<=', $sub{'/cgi/env'}{start}, 'one after the other';
        ok $sub{'/up/c'}{end} <= $sub{'/inner.shtml'}{end}, 'the inner one ends behind its own';

        my %client = map { $_->{attrs}{'url.full'} =~ m{/(\w)$} => $_ }
            $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
        for my $name (qw(a b c)) {
            is $client{$name}{parent_span_id}, $sub{"/up/$name"}{span_id},
                "the try of $name is below its subrequest";
            is $client{$name}{attrs}{'http.request.resend_count'}, undef, 'and its first';
        }
        is_deeply [ map { (EdgespanTest::Upstream::header_values($_, 'traceparent'))[0] }
                $up->requests ], [ map { traceparent($client{$_}) } qw(a c b) ],
            'upstreams see their tries';
        my $env = env_of($span->{response});
        is $env->{HTTP_TRACEPARENT}, traceparent($sub{'/cgi/env'}), 'a script sees its span';
        is $env->{OTEL_TRACEPARENT}, traceparent($sub{'/cgi/env'}), 'in both ways';
        is $env->{OTEL_SPAN_ID}, $span->{span_id}, 'and that of the request';
        lint($s);
        $s->finish;
    };
}

subtest 'subrequests that only look, and others that run' => sub {
    my $s = traced(extra => [qw(autoindex negotiation)], http => "$SSI\n" . <<'END',
HeaderName HEADER.html
DirectoryIndex index.html
<Directory %%PREFIX%%/html/v>
Options +MultiViews
</Directory>
END
        files => { 'html/list/HEADER.html' => 'head', 'html/list/file' => '',
            'html/dir/index.html' => 'index', 'html/v/page.en.html' => 'en',
            'html/v/page.html' => 'none' })->start;
    my $span = get($s, '/list/');
    my %sub = subrequests($s, $span);
    is_deeply [ keys %sub ], ['/list/HEADER.html'], 'mod_autoindex runs its header only';
    for my $path (qw(/dir/ /v/page)) {
        $span = get($s, $path);
        is $span->{attrs}{'http.response.status_code'}, 200, "$path: served";
        %sub = subrequests($s, $span);
        is keys %sub, 0, 'without a subrequest';
    }
    lint($s);
    $s->finish;
};

subtest 'how they end' => sub {
    my $hangs = EdgespanTest::Upstream->new(respond => sub {
        $_[0] =~ m{^GET /500} ? "HTTP/1.1 500 x\r\nContent-Length: 3\r\n\r\noh\n"
            : ("HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nshort", 'close');
    });
    my $s = traced(extra => ['include'], vars => { UP => $hangs->address,
            DEAD => '127.0.0.1:' . free_port() },
        files => { %SCRIPTS, 'cgi-bin/fails' => "#!/bin/sh\nexit 1\n", 'html/empty.txt' => '',
            'html/page.shtml' => page(qw(/up/500 /dead/x /up/short /cgi/fails /empty.txt
                /moved/x /cgi/slow)), 'html/denied/x' => '',
            'html/sorry.txt' => 'sorry', 'html/missing.shtml' => page(qw(/none /denied/x)) },
        http => "$SSI\n" . <<'END')->start;
ProxyPass /up/ http://%%UP%%/
ProxyPass /dead/ http://%%DEAD%%/
<Location /denied/>
Require all denied
</Location>
<Directory %%PREFIX%%/html>
RewriteEngine On
RewriteRule ^moved/x$ /sorry.txt
</Directory>
END
    my $span = get($s, '/page.shtml');
    my %sub = subrequests($s, $span);
    my $status = sub { $sub{ $_[0] }{attrs}{'http.response.status_code'} };
    is $status->('/up/500'), 500, "an upstream's error";
    is $status->('/dead/x'), 503, 'no upstream';
    is $status->('/up/short'), 200, 'an answer that was cut short';
    is $status->('/cgi/fails'), 500, 'a script that fails';
    is $sub{'/cgi/fails'}{attrs}{'error.type'}, 500, 'is an error';
    is $status->('/empty.txt'), 200, 'an empty answer is one';
    is $status->('/sorry.txt'), 200, 'redirected';
    is keys %sub, 7, 'one span for both steps';
    cmp_ok $sub{'/cgi/slow'}{end} - $sub{'/cgi/slow'}{start}, '>', 0.3e9, 'as long as it took';
    cmp_ok $sub{'/cgi/fails'}{end}, '<=', $sub{'/cgi/slow'}{start}, 'and not longer';

    $span = get($s, '/missing.shtml');
    %sub = subrequests($s, $span);
    is_deeply [ keys %sub ], ['/none'], 'what is denied does not run, what is not there does';
    is $status->('/none'), 404, 'to say so';
    lint($s);
    $s->finish;
};

subtest 'OtelSubrequestSpan' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(extra => ['include'], vars => { UP => $up->address },
        files => { %SCRIPTS, 'html/page.shtml' => page(qw(/off.shtml /up/off/x /cgi/env)),
            'html/off.shtml' => page(qw(/on.txt /up/on)), 'html/on.txt' => 'on' },
        http => "$SSI\n" . <<'END')->start;
ProxyPass /up/ http://%%UP%%/
<Location ~ "/off|/cgi">
OtelSubrequestSpan Off
</Location>
END
    my $span = get($s, '/page.shtml');
    my %sub = subrequests($s, $span);
    is_deeply [ sort keys %sub ], [qw(/on.txt /up/on)], 'off and on';
    is $sub{$_}{parent_span_id}, $span->{span_id}, "$_ is below the next span above"
        for sort keys %sub;
    my %client = map { $_->{attrs}{'url.full'} =~ m{/(\w+)$} => $_ }
        $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    is $client{x}{parent_span_id}, $span->{span_id}, 'the try likewise';
    is $client{on}{parent_span_id}, $sub{'/up/on'}{span_id}, 'or below its own';
    is env_of($span->{response})->{HTTP_TRACEPARENT}, traceparent($span),
        'a script sees the next span above';
    lint($s);
    $s->finish;
};

subtest 'kept at the end' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(extra => ['include'], vars => { UP => $up->address },
        files => { %SCRIPTS, 'html/page.shtml' => page(qw(/up/x?token=s /cgi/slow)) },
        http => "OtelSampleRate 0\nOtelSampleKeep status=200\nProxyPass /up/ http://%%UP%%/\n$SSI"
            . "<Location /up>\nOtelRedact query=token\n</Location>\n")
        ->start;
    my $span = get($s, '/page.shtml');
    is $span->{attrs}{'edgespan.sampling.reason'}, 'status', 'kept for its status';
    my %sub = subrequests($s, $span);
    is_deeply [ sort keys %sub ], [qw(/cgi/slow /up/x)], 'with its subrequests';
    is $sub{'/up/x'}{attrs}{'url.query'}, 'token=REDACTED', 'hidden as their places say';
    my ($client) = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    is $client->{parent_span_id}, $sub{'/up/x'}{span_id}, 'and the try below';
    like $client->{attrs}{'url.full'}, qr/\?token=REDACTED$/, 'whose URL is hidden likewise';
    lint($s);
    $s->finish;
};

subtest 'HTTP/2' => sub {
    plan skip_all => 'curl has no HTTP/2' unless `curl -V 2>&1` =~ /HTTP2/;
    my $s = traced(http2 => 1, extra => ['include'], http => $SSI,
        files => { %SCRIPTS, 'html/page.shtml' => page(qw(/small.txt /cgi/slow)),
            'html/small.txt' => 'small' })->start;
    my $span = span_of($s, get_h2($s, '/page.shtml'));
    my %sub = subrequests($s, $span);
    is_deeply [ sort keys %sub ], [qw(/cgi/slow /small.txt)], 'a span each';
    cmp_ok $sub{'/small.txt'}{end}, '<=', $sub{'/cgi/slow'}{start}, 'one after the other';
    lint($s);
    $s->finish;
};

done_testing;
