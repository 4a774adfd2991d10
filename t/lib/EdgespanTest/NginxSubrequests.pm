# An nginx whose subrequests ask two upstreams: the tree of spans that a request makes
# is as expected, and each upstream was sent the id of a span in it.
package EdgespanTest::NginxSubrequests;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Tree;
use EdgespanTest::Upstream;

our @EXPORT = qw(serve upstreams request took of);

# What an upstream does is in the path.
sub _respond {
    my ($bytes) = @_;
    my ($path) = $bytes =~ m{\A\S+ (\S+)};
    return 'reset' if $path =~ m{/reset};
    return 'hang' if $path =~ m{/hang};
    my @head = ('HTTP/1.1 200 OK', 'Content-Type: text/html');
    my $text = 'ok';
    if ($path =~ m{/slice} && $bytes =~ /^Range: bytes=(\d+)-(\d+)/mi) {
        $text = 's' x 10;
        $head[0] = 'HTTP/1.1 206 Partial Content';
        push @head, "Content-Range: bytes $1-$2/30";
    }
    push @head, "X-Accel-Redirect: $1" if $path =~ m{/to(/\S+)};
    $head[0] = "HTTP/1.1 $1 X" if $path =~ m{/status/(\d+)};
    $text = '<!--# include virtual="/up/inner" -->' if $path =~ m{/page};
    return [ delay => $path =~ /slow/ ? 0.3 : 0 ],
        join("\r\n", @head, 'Content-Length: ' . length $text, '', $text);
}

my ($n, @seen);
my @upstreams = map { EdgespanTest::Upstream->new(respond => \&_respond) } 1, 2;

sub upstreams { return @upstreams }

# A traced nginx, started, in whose configuration %%UP%% and %%OTHER%% are the upstreams.
sub serve {
    my (%opt) = @_;
    $n = EdgespanTest::NginxTraced->new(%opt,
        vars => { UP => $upstreams[0]->address, OTHER => $upstreams[1]->address });
    return $n->start;
}

# Every upstream was sent the id of the CLIENT span (in whose URL it is), or with
# otel_upstream_span off that of the span above.
sub _wire {
    my ($spans, $record) = @_;
    my %span = map { $_->{span_id} => $_ } @$spans;
    for my $i (0, 1) {
        my @all = $upstreams[$i]->requests;
        for my $bytes (splice @all, $seen[$i]) {
            my ($path) = $bytes =~ m{\A\S+ (\S+)};
            my @tp = EdgespanTest::Upstream::header_values($bytes, 'traceparent');
            is @tp, 1, "$path: one traceparent" or next;
            my (undef, $trace, $id) = split /-/, $tp[0];
            is $trace, $record->{trace}, "$path: the trace";
            my $span = delete $span{$id};
            ok $span, "$path: a span that nobody else was sent" or next;
            like $span->{attrs}{'url.full'}, qr{:\d+\Q$path\E$}, "$path: its own CLIENT span"
                if $span->{kind} eq 'CLIENT';
        }
        $seen[$i] = $upstreams[$i]->requests;
    }
    my @left = grep { $_->{kind} eq 'CLIENT' } values %span;
    is @left, 0, 'no CLIENT span of which no upstream knows';
    return;
}

# Makes a request; compares its tree of spans. Returns (spans, record, answer).
sub request {
    my ($path, $tree, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $seen[$_] = $upstreams[$_]->requests for 0, 1;
    my ($answer, $record) = $n->recorded(sub { http_get($n->port(1), $path, %opt) });
    my @spans = $n->trace($record);
    my ($expected, $got) = EdgespanTest::Tree::compare(
        EdgespanTest::Tree::parse($tree), \@spans, {}, sub { $_[0] });
    is $got, $expected, "$path: the spans"
        or diag EdgespanTest::Tree::tree(\@spans, 1);
    note EdgespanTest::Tree::tree(\@spans);
    _wire(\@spans, $record);
    for my $s (@spans) {
        my ($parent) = grep { $_->{span_id} eq $s->{parent_span_id} } @spans;
        next unless $parent;
        cmp_ok $s->{start}, '>=', $parent->{start}, "$s->{name} begins later";
        cmp_ok $s->{end}, '<=', $parent->{end}, "$s->{name} ends earlier"
            unless $s->{attrs}{'edgespan.background'} || $parent->{kind} eq 'INTERNAL'
                && $parent->{attrs}{'edgespan.background'};
    }
    return (\@spans, $record, $answer);
}

sub took { return ($_[0]{end} - $_[0]{start}) / 1e6 }
sub of { my ($kind, $spans) = @_; return grep { $_->{kind} eq $kind } @$spans }

1;
