package EdgespanTest::Tree;

# Spans as a tree of text, and the comparison of such a text with what arrived:
#
#   SERVER GET /api/* 502 error=502
#     . url.path = /api/x
#     . url.query absent
#     . network.peer.port ~ ^\d+$
#     CLIENT GET - error=connection_failed
#     CLIENT GET 502 error=502 resend=1 {live}
#
# A line is kind, name, http.response.status_code ("-": none) and those of %SHOWN
# that the span has. Lines with a dot say more of the span above: attributes, or
# what %FIELD has; "= value (int)" looks at the type, too. {live} is a label.

use strict;
use warnings;

# What a line has where the span has it.
my @SHOWN = (
    [ error      => 'error.type' ],
    [ reason     => 'edgespan.reason' ],
    [ cache      => 'edgespan.cache.status' ],
    [ resend     => 'http.request.resend_count' ],
    [ background => 'edgespan.background' ],
    [ grpc       => 'rpc.response.status_code' ],
    [ kept       => 'edgespan.sampling.reason' ],
);

my %FIELD = (
    parent     => sub { $_[0]{parent_span_id} || undef },
    flags      => sub { sprintf '%x', $_[0]{flags} },
    tracestate => sub { $_[0]{trace_state} eq '' ? undef : $_[0]{trace_state} },
    link       => sub { join(' ', map {"$_->{trace_id}-$_->{span_id}"} @{ $_[0]{links} }) || undef },
    event      => sub { join(' ', map { $_->{name} } @{ $_[0]{events} }) || undef },
    service    => sub { $_[0]{resource}{'service.name'} },
    dropped_attributes => sub { $_[0]{dropped_attributes_count} || undef },
);

# [span, depth] of each span, parents before children, siblings by their start.
sub walk {
    my ($spans) = @_;
    my (%known, %children, @roots, @list, %seen);
    $known{"$_->{trace_id}$_->{span_id}"} = 1 for @$spans;
    for my $s (sort { $a->{start} <=> $b->{start} } @$spans) {
        my $parent = "$s->{trace_id}$s->{parent_span_id}";
        push @{ $known{$parent} ? ($children{$parent} //= []) : \@roots }, $s;
    }
    my @todo = map { [ $_, 0 ] } @roots;
    while (my $entry = shift @todo) {
        my ($s, $depth) = @$entry;
        push @list, $entry;
        my $id = "$s->{trace_id}$s->{span_id}";
        next if $seen{$id}++;
        unshift @todo, map { [ $_, $depth + 1 ] } @{ $children{$id} // [] };
    }
    return @list;
}

sub _head {
    my ($s) = @_;
    my $attrs = $s->{attrs};
    return join ' ', $s->{kind}, $s->{name},
        $attrs->{'http.response.status_code'} // $attrs->{'http.status_code'} // '-',
        map { defined $attrs->{ $_->[1] } ? "$_->[0]=$attrs->{ $_->[1] }" : () } @SHOWN;
}

# For reading: every span with its duration, and all that it says of itself if
# $all. Spans whose id was there already are marked.
sub tree {
    my ($spans, $all) = @_;
    my ($out, $trace, %seen) = ('', '');
    for my $entry (walk($spans)) {
        my ($s, $depth) = @$entry;
        $out .= "trace $s->{trace_id}\n" if $depth == 0 && $s->{trace_id} ne $trace;
        $trace = $s->{trace_id};
        my $indent = '  ' x ($depth + 1);
        $out .= sprintf "%s%s %.3fms [%s] %s%s%s\n", $indent, _head($s),
            ($s->{end} - $s->{start}) / 1e6, $s->{resource}{'service.name'} // '?',
            $s->{span_id}, $depth || $s->{parent_span_id} eq '' ? '' : " <- $s->{parent_span_id}",
            $seen{"$s->{trace_id}$s->{span_id}"}++ ? ' (DUPLICATE)' : '';
        next unless $all;
        $out .= "$indent  . $_ = " . _text($s->{attrs}{$_}) . "\n" for sort keys %{ $s->{attrs} };
        $out .= "$indent  . event $_->{name}\n" for @{ $s->{events} };
    }
    return $out;
}

sub _text {
    my ($value) = @_;
    my $text = ref $value ? '[' . join(', ', @$value) . ']' : $value;
    return length $text > 200 ? substr($text, 0, 200) . '...' : $text;
}

# --- A tree that is expected ------------------------------------------------

# [{depth, head, label, more => [line ...]} ...]
sub parse {
    my ($text) = @_;
    my @nodes;
    for my $line (split /\n/, $text) {
        my ($indent, $rest) = $line =~ /^( *)(\S.*?)\s*$/ or next;
        if ($rest =~ /^\. (.*)/) {
            die "no span above: $line\n" unless @nodes;
            push @{ $nodes[-1]{more} }, $1;
            next;
        }
        $rest =~ /^(?:SERVER|CLIENT|INTERNAL) / or die "no kind of span: $line\n";
        die "two blanks per level: $line\n" if length($indent) % 2;
        my $label = $rest =~ s/\s+\{(\w+)\}$// ? $1 : undef;
        push @nodes, { depth => length($indent) / 2, head => $rest, label => $label, more => [] };
    }
    return \@nodes;
}

# What $line asks of $span, as it is: the line itself if it is true.
sub _answer {
    my ($s, $line) = @_;
    my ($key, $how, $want) = $line =~ /^(\S+) (=|~|absent)(?: (.*))?$/
        or die "neither '=' nor '~' nor 'absent': $line\n";
    my $have = $FIELD{$key} ? $FIELD{$key}->($s) : $s->{attrs}{$key};
    return "$key absent" unless defined $have;
    my $type = ($want // '') =~ / \((?:string|int|double|bool)(?:\[\])?\)$/
        ? " ($s->{attr_types}{$key})" : '';
    my $text = _text($have) . $type;
    return $line if $how eq '~' && $text =~ /$want/;
    return "$key = $text";
}

# (expected, got): two texts that are the same where the spans are as expected.
# $nodes are those of parse() behind expand(), which puts in what is known by now.
# Labels are entered into $labels: their spans.
sub compare {
    my ($nodes, $spans, $labels, $expand) = @_;
    my @have = walk($spans);
    for my $i (0 .. $#$nodes) {
        $labels->{ $nodes->[$i]{label} } = $have[$i][0] if $nodes->[$i]{label} && $have[$i];
    }
    my ($expected, $got) = ('', '');
    for my $i (0 .. (@have > @$nodes ? $#have : $#$nodes)) {
        my $node = $nodes->[$i];
        my @more = map { $expand->($_) } @{ $node ? $node->{more} : [] };
        if ($node) {
            my $indent = '  ' x $node->{depth};
            $expected .= "$indent$_\n" for $expand->($node->{head}), map {"  . $_"} @more;
        }
        my $entry = $have[$i] or next;
        my $indent = '  ' x $entry->[1];
        $got .= "$indent$_\n" for _head($entry->[0]), map { '  . ' . _answer($entry->[0], $_) } @more;
    }
    return ($expected, $got);
}

1;
