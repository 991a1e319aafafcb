<?php

namespace App\Work;

/** Never gives back 4 MiB. */
class Leaking extends Piece
{
    private static array $kept = [];

    protected function work(): void
    {
        self::$kept[] = str_repeat('.', 4 << 20);
    }
}
