# httpd: a request's ids in its logs, and what mod_status shows.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Httpd;
use EdgespanTest::HttpdTraced;

my $HTTP = <<'END';
ErrorLogFormat "request=%L connection=%{c}L trace=%{OTEL_TRACE_ID}e note=%{OTEL_SPAN_ID}n: %M"
LogFormat "%U request=%L connection=%{c}L trace=%{OTEL_TRACE_ID}e" ids
CustomLog %%PREFIX%%/ids.log ids
RewriteEngine On
RewriteRule ^/rewritten - [E=a:b]
<Location /denied>
Require all denied
</Location>
<Location /document>
Require all denied
ErrorDocument 403 /missing
</Location>
<Location /off>
OtelTrace Off
Require all denied
</Location>
<Location /server-status>
SetHandler server-status
</Location>
END

# The fields of a line of the access log, and of those of the error log that match.
sub fields { return +{ $_[0] =~ /\b(\w+)=([^\s:]+)/g } }

sub ids {
    my ($s, $path, $wanted) = @_;
    my $mark = $s->log_mark;
    my $record = recorded($s, sub { http_get($s->port, $path) });
    my $access;
    wait_for(sub {
        ($access) = (slurp($s->prefix . '/ids.log') // '') =~ /(.*)\n\z/;
    }, 5, 'a line of ids');
    my @lines = map { fields($_) } grep {/$wanted/} split /\n/, $s->log_since($mark);
    cmp_ok @lines, '>', 0, "$path: logged";
    return (fields($access), $record, @lines);
}

for my $mpm (grep { -e EdgespanTest::Httpd->system_modules . "/mod_mpm_$_.so" } qw(event prefork)) {
    subtest "$mpm: %L" => sub {
        my $s = traced(mpm => $mpm, http => $HTTP)->start;
        my ($access, $record, $error) = ids($s, '/denied', 'AH01630');
        is $error->{request}, $record->{trace}, 'the trace id';
        is $error->{trace}, $record->{trace}, 'which is in the environment';
        is $error->{note}, $record->{span}, 'and the span id in the notes';
        is $access->{request}, $record->{trace}, 'in the access log';
        isnt $error->{connection}, $record->{trace}, 'a connection keeps its own';
        is $access->{connection}, $error->{connection}, 'in both logs';
        is span_of($s, $record)->{trace_id}, $access->{request}, 'the span has it';

        ($access, $record, $error) = ids($s, '/missing', 'AH00128');
        is $error->{request}, $record->{trace}, 'of the handler';

        ($access, $record, my @errors) = ids($s, '/document', 'AH01630|AH00128');
        is @errors, 2, 'a denied request, and its document is not there';
        is $_->{request}, $record->{trace}, 'both with its id' for @errors;

        ($access, $record, $error) = ids($s, '/off', 'AH01630');
        unlike $error->{request}, qr/^[0-9a-f]{32}$/, 'untraced: an id of httpd';
        is $access->{request}, $error->{request}, 'in both logs';

        ($access, $record, $error) = ids($s, '/a%2fb', 'AH00026');
        unlike $error->{request}, qr/^[0-9a-f]{32}$/, 'refused before its place is known: likewise';
        is $access->{request}, $error->{request}, 'in both logs';
        is span_of($s, $record)->{attrs}{'http.response.status_code'}, 404, 'with a span';
        $s->finish;
    };
}

subtest '%L and lines before the place is known' => sub {
    my $s = traced(log_level => 'info rewrite:trace3', http => $HTTP)->start;
    my ($access, $record, @lines) = ids($s, '/rewritten', 'rewrite|AH00128');
    my @early = grep { !defined $_->{trace} } @lines;
    my @late = grep { defined $_->{trace} } @lines;
    cmp_ok @early, '>', 0, 'there are some';
    unlike $_->{request}, qr/^[0-9a-f]{32}$/, 'they have an id of httpd' for $early[0];
    is $late[-1]{request}, $record->{trace}, 'what follows has the trace id';
    is $access->{request}, $record->{trace}, 'the access log, too';
    $s->finish;
};

subtest '%L with mod_unique_id' => sub {
    my $s = traced(extra => ['unique_id'], http => $HTTP)->start;
    my ($access, $record, $error) = ids($s, '/denied', 'AH01630');
    is $error->{request}, $record->{trace}, 'the trace id';
    ($access, $record, $error) = ids($s, '/off', 'AH01630');
    like $error->{request}, qr/^[\w@-]{24,}$/, 'untraced: that of mod_unique_id';
    $s->finish;
};

subtest 'mod_status' => sub {
    my $s = traced(http => $HTTP)->start;
    span_of($s, scalar recorded($s, sub { http_get($s->port, '/') })) for 1 .. 3;
    my %facts;
    wait_for(sub {
        %facts = http_get($s->port, '/server-status?auto')->{body} =~ /^(edgespan\.\S+): (.*)$/mg;
        return $facts{'edgespan.exporters.0.sent_spans'} >= 3;
    }, 10, 'spans that were sent');
    cmp_ok $facts{'edgespan.spans.started'}, '>=', 3, 'traces';
    is $facts{'edgespan.spans.dropped.queue_full'}, 0, 'drops by their reason';
    is $facts{'edgespan.queue.fill_percent'}, 0, 'the queue';
    is $facts{'edgespan.exporters.0.state'}, 'working', 'the exporter';
    my $page = http_get($s->port, '/server-status');
    like $page->{body}, qr{<h2>Edgespan</h2>}, 'a section for people';
    like $page->{body}, qr{<td>exporters\.0\.state</td><td>working</td>}, 'with the same facts';
    $s->finish;
};

subtest 'mod_status of a server that does not trace' => sub {
    my $s = EdgespanTest::Httpd->new(http => <<'END')->start;
<Location /server-status>
SetHandler server-status
</Location>
END
    my $page = http_get($s->port, '/server-status?auto');
    is $page->{status}, 200, 'answers';
    unlike $page->{body}, qr/edgespan/i, 'with nothing of ours';
    $s->finish;
};

done_testing;
